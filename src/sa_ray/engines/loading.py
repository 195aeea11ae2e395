"""Pick the engine from the setting and what is installed, and load it."""

from importlib.util import find_spec
from typing import Literal

from sa_ray.contracts import EngineName, VariantName
from sa_ray.engines.port import Engine, EngineOptions
from sa_ray.engines.procedural import ProceduralEngine
from sa_ray.engines.process import EngineProcess
from sa_ray.errors import ConfigurationError

INSTALL_HINT = (
    "install the extra with `uv sync --extra stable-audio` and set HF_TOKEN, "
    "or set STABLE_AUDIO_ENGINE=procedural"
)


def resolve_engine_name(setting: Literal["auto"] | EngineName) -> EngineName:
    """Return the engine that ``STABLE_AUDIO_ENGINE`` means in this Python environment.

    Raises ``ConfigurationError`` if ``stable-audio-3`` is asked for by name and not installed.
    """
    installed = find_spec("stable_audio_3") is not None
    if setting == "auto":
        return "stable-audio-3" if installed else "procedural"
    if setting == "stable-audio-3" and not installed:
        raise ConfigurationError(
            f"STABLE_AUDIO_ENGINE=stable-audio-3, but the stable-audio-3 package is not "
            f"installed: {INSTALL_HINT}."
        )
    return setting


def load_engine(
    name: EngineName, variant: VariantName, options: EngineOptions | None = None
) -> Engine:
    """Load ``variant`` into memory with the engine ``name``; slow for a real model, which gets a
    process of its own.

    Raises ``ConfigurationError`` (an operator must change something) or ``UnavailableError``
    (weights out of reach, self-test failed) with what to do about it.
    """
    if name == "procedural":
        return ProceduralEngine(variant)
    loader = f"{__name__}:{load_stable_audio.__name__}"
    return EngineProcess(loader, variant, options or EngineOptions())


def load_stable_audio(variant: VariantName, options: EngineOptions) -> Engine:
    """Load ``variant`` into this process. Raises as ``load_engine`` does."""
    try:
        # Imported late: it takes seconds, and most processes never load a model.
        from sa_ray.engines.stable_audio.loading import load
    except ImportError as error:
        raise ConfigurationError(
            f"The engine 'stable-audio-3' cannot be loaded here ({error}): {INSTALL_HINT}."
        ) from error
    return load(variant, options)
