"""``sa-ray doctor``: look whether a service can run on this machine, without starting one."""

import os
import platform
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from sa_ray.access import Keyring
from sa_ray.cli.console import AsJson
from sa_ray.cli.findings import Finding, report
from sa_ray.engines import resolve_engine_name
from sa_ray.errors import ConfigurationError, SaRayError
from sa_ray.jobs import reach_job_store
from sa_ray.jobs.sqlite_file import sqlite_path
from sa_ray.settings import Settings, load_settings
from sa_ray.storage import open_object_store

DISK_BYTES: Final = 2 << 30
"""Least room for audio, jobs and logs."""

DISK_SHARE: Final = 0.95
"""Share of a full disk from which Ray stores no objects (``local_fs_capacity_threshold``)."""

SHARED_BYTES: Final = 256 << 20
"""Least shared memory: the longest clips of a few requests at once."""

OPEN_FILES: Final = 4096
"""Least limit of open files that Ray's processes can live with under load."""

Look = Callable[[Settings], str]
"""Returns what is well. Raises ``IllError``, or an error of the part that it looks at."""


class IllError(Exception):
    """What is not well, and how to mend it."""


def doctor(
    port: Annotated[int, typer.Option(help="Port that the service is to listen on.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Look whether a service with these settings can run here, and say how to mend what is wrong.

    Writes a small object to the store and deletes it again. Ends with 1 if anything is wrong.
    """
    report(as_json, _findings(port))


def _findings(port: int) -> Iterator[Finding]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        yield Finding("settings", False, error.message)
        return
    yield Finding("settings", True, "`sa-ray config` lists them")
    looks: dict[str, Look] = {
        "ray": _ray,
        "engine": _engine,
        "device": _device,
        "weights": _weights,
        "jobs": _jobs,
        "storage": _storage,
        "keys": _keys,
        "port": lambda _: _port(port),
        "disk": _disk,
        "memory": _shared_memory,
        "files": _open_files,
    }
    for name, look in looks.items():
        try:
            yield Finding(name, True, look(settings))
        except IllError as ill:
            yield Finding(name, False, str(ill))
        except SaRayError as error:
            yield Finding(name, False, error.message)


def _ray(_: Settings) -> str:
    return f"Ray {version('ray')}, Python {platform.python_version()}"


def _engine(settings: Settings) -> str:
    engine = resolve_engine_name(settings.models.engine)
    if engine == "procedural":
        return "procedural, the stand-in: the extra `stable-audio` brings Stable Audio 3"
    return f"{engine} {version('stable-audio-3')}, torch {version('torch')}"


def _device(settings: Settings) -> str:
    wanted = settings.models.device
    if resolve_engine_name(settings.models.engine) == "procedural":
        return "no GPU is needed"
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{', '.join(names)}, CUDA {torch.version.cuda}"
    if wanted == "cuda" or Path("/proc/driver/nvidia").exists():
        raise IllError(
            f"torch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda}): look "
            "whether `nvidia-smi` does, and whether its driver is new enough for that CUDA."
        )
    return "no GPU: clips take seconds to minutes, and medium is not for CPUs"


def _weights(settings: Settings) -> str:
    if resolve_engine_name(settings.models.engine) == "procedural":
        return "none are needed"
    models = settings.models.preloaded
    if folder := settings.weights.weights_dir:
        missing = [name for name in models if not (folder / name / "model.safetensors").is_file()]
        if missing:
            raise IllError(
                f"{folder} (STABLE_AUDIO_WEIGHTS_DIR) has no {missing[0]}/model.safetensors: put "
                "the files of its repository there."
            )
        return f"of {', '.join(models)} in {folder}"
    from huggingface_hub import try_to_load_from_cache

    for name in models:
        spec = settings.models.spec(name)
        found = try_to_load_from_cache(spec.repository, "model.safetensors", revision=spec.revision)
        if not isinstance(found, str) and settings.weights.opened().hf_token is None:
            raise IllError(
                f"those of {name} are not in the cache, and there is no HF_TOKEN: accept the terms "
                f"at https://huggingface.co/{spec.repository} and set a token of that account."
            )
    return "in the cache of the Hugging Face Hub, or to be downloaded with HF_TOKEN"


def _jobs(settings: Settings) -> str:
    url = settings.jobs.jobs_url
    if path := sqlite_path(url):
        _require_writable(path.parent, "STABLE_AUDIO_JOBS_URL")
        return f"in the file {path}"
    secret = settings.jobs.opened().jobs_password
    reach_job_store(url, secret.get_secret_value() if secret else None)
    return f"the server of {url.partition('?')[0]} answers"


def _storage(settings: Settings) -> str:
    store = open_object_store(settings.storage)
    store.check()
    return f"{store.location} can be written, read and deleted"


def _keys(settings: Settings) -> str:
    file = settings.access.api_keys_file
    if file is not None:
        Keyring(file)
        return f"in {file}"
    who = "everybody" if settings.access.allow_anonymous else "clients on this machine alone"
    return f"none: the service answers {who}"


def _port(port: int) -> str:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise IllError(
                f"{port} cannot be listened on ({error.strerror}): is a service running already? "
                "`sa-ray check` asks it; or choose another with --port."
            ) from None
    return f"{port} is free"


def _disk(settings: Settings) -> str:
    folders = {"audio": settings.storage.output_dir, "temporary files": Path("/tmp")}  # noqa: S108
    if path := sqlite_path(settings.jobs.jobs_url):
        folders["jobs"] = path.parent
    for name, folder in folders.items():
        usage = shutil.disk_usage(_existing(folder))
        if usage.free < DISK_BYTES or usage.used > DISK_SHARE * usage.total:
            raise IllError(
                f"{folder} ({name}) has {usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} left: "
                f"make room; {DISK_BYTES / 1e9:.0f} GB and a twentieth of the disk should be free."
            )
    return "there is room for audio, jobs and Ray's files"


def _shared_memory(_: Settings) -> str:
    shared = Path("/dev/shm")  # noqa: S108
    if not shared.is_dir():
        return "none here: Ray keeps its objects in temporary files"
    free = shutil.disk_usage(shared).free
    if free < SHARED_BYTES:
        raise IllError(
            f"{shared} has {free / 1e6:.0f} MB: give the container more, as with `--shm-size=2g`."
        )
    return f"{free / 1e9:.1f} GB are shared"


def _open_files(_: Settings) -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        raise IllError(f"{soft} may be open at once (hard limit {hard}): `ulimit -n {OPEN_FILES}`.")
    return "enough may be open"


def _require_writable(folder: Path, setting: str) -> None:
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise IllError(f"{there} cannot be written: name another place by {setting}.")


def _existing(folder: Path) -> Path:
    """Return the folder, or the innermost one around it that is there."""
    folder = folder.expanduser().absolute()
    return next(one for one in (folder, *folder.parents) if one.exists())
