"""Find weights, download them at a pinned revision, load them with every key accounted for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from stable_audio_3.factory import create_diffusion_cond_from_config
from stable_audio_3.loading_utils import remap_state_dict_keys
from transformers import T5GemmaEncoderModel

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import VariantName
from sa_ray.engines.port import EngineOptions
from sa_ray.errors import ConfigurationError, UnavailableError

CONFIG_FILE = "model_config.json"
WEIGHTS_FILE = "model.safetensors"
PATTERNS = [CONFIG_FILE, WEIGHTS_FILE, "t5gemma-*/*"]

SHOWN_KEYS = 5


def find_snapshot(variant: VariantName, options: EngineOptions) -> Path:
    """Return the folder that holds the variant's files, downloading them if need be.

    Raises ``ConfigurationError`` for what an operator must change (the token, the licence, the
    folder) and ``UnavailableError`` for what may pass (no network).
    """
    if options.weights_dir is not None:
        return _local_snapshot(options.weights_dir, variant)
    repo, revision = _address(variant, options)
    cached = _cached_snapshot(repo, revision)
    if cached is not None:
        return cached
    with _explained(variant, options):
        return Path(
            snapshot_download(
                repo, revision=revision, token=options.hf_token, allow_patterns=PATTERNS
            )
        )


def _address(variant: VariantName, options: EngineOptions) -> tuple[str, str]:
    """Return the Hub's repository and the commit of the weights."""
    spec = CATALOGUE[variant]
    return options.repository or spec.repository, options.revision or spec.revision


@contextmanager
def _explained(variant: VariantName, options: EngineOptions) -> Iterator[None]:
    """Raise errors of our own, with what to do about it, for those of a download."""
    repo, revision = _address(variant, options)
    page = f"https://huggingface.co/{repo}"
    try:
        yield
    except GatedRepoError as error:
        raise ConfigurationError(
            f"The weights of {variant} are gated, and this token has no access to them: accept "
            f"the licence at {page} with your account, then set HF_TOKEN to a token of it."
        ) from error
    except RevisionNotFoundError as error:
        raise ConfigurationError(
            f"{repo} has no revision {revision}, or no longer. If STABLE_AUDIO_VARIANTS names it, "
            "name another there; else update sa-ray, which is pinned to it, or put the files in "
            "STABLE_AUDIO_WEIGHTS_DIR."
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigurationError(_refused(repo, page, options)) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise ConfigurationError(_refused(repo, page, options)) from error
        raise UnavailableError(
            f"Downloading the weights of {variant} from {page} failed with status {status}: "
            "the next start of the replica tries again."
        ) from error
    except (httpx.TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UnavailableError(
            f"The weights of {variant} are not in the Hugging Face cache, and {page} cannot be "
            "reached: check the network, or set STABLE_AUDIO_WEIGHTS_DIR to a folder with them."
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"The weights of {variant} could not be written to the Hugging Face cache: {error}."
        ) from error


def build_model(snapshot: Path, *, device: Any, half: bool) -> tuple[Any, dict[str, Any]]:
    """Return the package's ``ConditionedDiffusionModelWrapper`` with its weights, and its config.

    Raises ``ConfigurationError`` if a file is missing or unreadable, or if a key of the checkpoint
    is missing, unknown or of another shape. The package's own loader passes over such keys silently
    and leaves random numbers in their place.
    """
    config = json.loads(_existing(snapshot / CONFIG_FILE).read_text())
    for conditioner in config["model"]["conditioning"]["configs"]:
        if conditioner["type"] == "t5gemma":
            # By path, or the package asks the Hub for it again, at the newest revision.
            conditioner["config"]["model_path"] = str(snapshot)
    try:
        with building_on(torch.device("meta")):
            model = create_diffusion_cond_from_config(config)
    except OSError as error:
        raise ConfigurationError(
            f"The text encoder in {snapshot} cannot be loaded: {error}"
        ) from error
    dtype = torch.float16 if half else None
    load_checked(model, _existing(snapshot / WEIGHTS_FILE), device=device, dtype=dtype)
    model.eval().requires_grad_(False)
    # As the package sets them: sums in fp32, whatever the inputs.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    return model, config


@contextmanager
def building_on(device: Any) -> Iterator[None]:
    """Build the package's modules on ``device``, but load its text encoder on the CPU.

    ``transformers`` does not load under the device ``meta``, and under others only with
    ``accelerate``.
    """
    load_encoder = T5GemmaEncoderModel.from_pretrained

    def load_aside(*args: Any, **kwargs: Any) -> Any:
        device.__exit__(None, None, None)
        try:
            return load_encoder(*args, **kwargs)
        finally:
            device.__enter__()

    T5GemmaEncoderModel.from_pretrained = load_aside
    try:
        with device:
            yield
    finally:
        T5GemmaEncoderModel.from_pretrained = load_encoder


def load_checked(model: Any, file: Path, *, device: Any, dtype: Any) -> None:
    """Load a checkpoint into ``model``, on ``meta`` so far, tensor by tensor.

    ``dtype``: of floating-point tensors; None: as in the file. Raises ``ConfigurationError`` unless
    all keys agree.
    """
    own = model.state_dict()
    try:
        with safe_open(file, framework="pt") as checkpoint:
            keys = checkpoint.keys()
            source = remap_state_dict_keys({key: key for key in keys}, own)
            shapes = {
                key: torch.Size(checkpoint.get_slice(name).get_shape())
                for key, name in source.items()
            }
            _check_keys({key: tensor.shape for key, tensor in own.items()}, shapes, file)
            weights = {
                key: _placed(checkpoint.get_tensor(name), device, dtype)
                for key, name in source.items()
            }
    except SafetensorError as error:
        raise ConfigurationError(
            f"{file} is damaged or incomplete ({error}): delete it, so that it is fetched again."
        ) from error
    model.load_state_dict(weights, strict=True, assign=True)


def _placed(tensor: Any, device: Any, dtype: Any) -> Any:
    """Return ``tensor`` on ``device``: cast first, so that the device holds it once."""
    cast = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
    # A copy of its own, or the weights would be pages of the file, read at the first batch.
    return cast.clone() if cast is tensor and device.type == "cpu" else cast.to(device)


def _check_keys(own: dict[str, Any], found: dict[str, Any], file: Path) -> None:
    """Raise ``ConfigurationError`` unless both have the same keys, with the same shapes."""
    wrong = {
        "missing": own.keys() - found.keys(),
        "unknown": found.keys() - own.keys(),
        "of another shape": {key for key in own.keys() & found.keys() if own[key] != found[key]},
    }
    if any(wrong.values()):
        shown = "; ".join(
            f"{len(keys)} {what} ({', '.join(sorted(keys)[:SHOWN_KEYS])}"
            f"{', ...' if len(keys) > SHOWN_KEYS else ''})"
            for what, keys in wrong.items()
            if keys
        )
        raise ConfigurationError(
            f"{file} does not fit the model that {CONFIG_FILE} describes. Keys: {shown}."
        )


def _cached_snapshot(repo: str, revision: str) -> Path | None:
    try:
        found = snapshot_download(
            repo, revision=revision, allow_patterns=PATTERNS, local_files_only=True
        )
    except (EntryNotFoundError, OSError):
        return None
    snapshot = Path(found)
    complete = (snapshot / CONFIG_FILE).is_file() and (snapshot / WEIGHTS_FILE).is_file()
    return snapshot if complete else None


def _local_snapshot(folder: Path, variant: VariantName) -> Path:
    snapshot = folder / variant
    if not snapshot.is_dir():
        raise ConfigurationError(
            f"STABLE_AUDIO_WEIGHTS_DIR is {folder}, but it has no folder {variant} with "
            f"{CONFIG_FILE}, {WEIGHTS_FILE} and the text encoder's folder."
        )
    return snapshot


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ConfigurationError(f"{file} is missing: the weights are incomplete.")
    return file


def _refused(repo: str, page: str, options: EngineOptions) -> str:
    if options.hf_token is None:
        return (
            f"{repo} is gated, and no token is set: accept the licence at {page}, and set HF_TOKEN."
        )
    return (
        f"Hugging Face refused the token in HF_TOKEN for {repo}: create one with read access at "
        f"https://huggingface.co/settings/tokens, and accept the licence at {page} with the same "
        "account."
    )
