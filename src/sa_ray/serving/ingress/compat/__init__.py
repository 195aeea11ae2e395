"""Other APIs, as their clients speak them: each a thin form of the routes of this one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sa_ray.serving.ingress.compat import elevenlabs, openai, stability, vllm_omni
from sa_ray.serving.ingress.compat.formats import Format
from sa_ray.settings.edge import CompatibleApi

FORMATS: Final[Mapping[CompatibleApi, Format]] = MappingProxyType(
    {
        "openai": openai.FORMAT,
        "elevenlabs": elevenlabs.FORMAT,
        "vllm-omni": vllm_omni.FORMAT,
        "stability": stability.FORMAT,
    }
)
