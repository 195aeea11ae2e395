"""A Hugging Face cache of tiny random checkpoints, and engines loaded from it."""

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import VariantName

if TYPE_CHECKING:
    from sa_ray.engines.stable_audio.engine import StableAudioEngine

INSTALLED = find_spec("stable_audio_3") is not None and find_spec("torch") is not None

collect_ignore_glob = [] if INSTALLED else ["tiny.py", "test_[!i]*.py"]

if not INSTALLED:
    warnings.warn(
        "tests/upstream is SKIPPED: the stable-audio-3 package is not installed, so nothing tests "
        "the real engine. Install it with `uv sync --extra stable-audio`.",
        stacklevel=1,
    )


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of the Hub, offline; set before ``huggingface_hub`` is imported."""
    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        import huggingface_hub.constants

        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        import torch
        from tiny import make_cache

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # tiny models; more threads only wait for each other
        make_cache(folder, VARIANTS)
        yield folder
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def load(hub_cache: Path) -> "Callable[[VariantName], StableAudioEngine]":
    """Load a variant's engine as a replica does, in fp32, from the cache of the Hub."""
    from sa_ray.engines.port import EngineOptions
    from sa_ray.engines.stable_audio.loading import load

    return cache(lambda variant: load(variant, EngineOptions(device="cpu", half=False)))


@pytest.fixture(scope="session")
def package(hub_cache: Path) -> "Callable[[VariantName], Any]":
    """Load a variant with the package's own ``from_pretrained``, unmodified."""
    from stable_audio_3.model import StableAudioModel

    def loaded(variant: VariantName) -> Any:
        # ``load_from`` of its text encoder goes to the Hub's newest revision: here, the only one.
        # Beside a GPU it would be in fp16 even on the CPU.
        model = StableAudioModel.from_pretrained(variant, device="cpu", model_half=False)
        model.model.conditioner.conditioners["prompt"].model.float()
        return model

    return cache(loaded)
