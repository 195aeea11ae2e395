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
from safetensors import SafetensorError
from safetensors.torch import load_file
from stable_audio_3.factory import create_diffusion_cond_from_config
from stable_audio_3.loading_utils import remap_state_dict_keys

from sa_ray.catalogue import CATALOGUE, repo_id
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
    repo, revision = repo_id(variant), CATALOGUE[variant].revision
    cached = _cached_snapshot(repo, revision)
    if cached is not None:
        return cached
    with _explained(variant, options):
        return Path(
            snapshot_download(
                repo, revision=revision, token=options.hf_token, allow_patterns=PATTERNS
            )
        )


@contextmanager
def _explained(variant: VariantName, options: EngineOptions) -> Iterator[None]:
    """Raise errors of our own, with what to do about it, for those of a download."""
    repo = repo_id(variant)
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
            f"{repo} no longer has revision {CATALOGUE[variant].revision}, which this release is "
            "pinned to: update sa-ray, or put the files in STABLE_AUDIO_WEIGHTS_DIR."
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
        model = create_diffusion_cond_from_config(config)
    except OSError as error:
        raise ConfigurationError(
            f"The text encoder in {snapshot} cannot be loaded: {error}"
        ) from error
    load_checked(model, _existing(snapshot / WEIGHTS_FILE))
    model.to(device).eval().requires_grad_(False)
    # As the package sets them: sums in fp32, whatever the inputs.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    if half:
        model.to(torch.float16)
    return model, config


def load_checked(model: Any, file: Path) -> None:
    """Load a checkpoint into ``model``. Raises ``ConfigurationError`` unless all keys agree."""
    try:
        checkpoint = load_file(file)
    except SafetensorError as error:
        raise ConfigurationError(
            f"{file} is damaged or incomplete ({error}): delete it, so that it is fetched again."
        ) from error
    own = model.state_dict()
    checkpoint = remap_state_dict_keys(checkpoint, own)
    wrong = {
        "missing": own.keys() - checkpoint.keys(),
        "unknown": checkpoint.keys() - own.keys(),
        "of another shape": {
            key for key in own.keys() & checkpoint.keys() if own[key].shape != checkpoint[key].shape
        },
    }
    if any(wrong.values()):
        found = "; ".join(
            f"{len(keys)} {what} ({', '.join(sorted(keys)[:SHOWN_KEYS])}"
            f"{', ...' if len(keys) > SHOWN_KEYS else ''})"
            for what, keys in wrong.items()
            if keys
        )
        raise ConfigurationError(
            f"{file} does not fit the model that {CONFIG_FILE} describes. Keys: {found}."
        )
    model.load_state_dict(checkpoint, strict=True)


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
