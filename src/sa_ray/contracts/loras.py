"""Adapters (LoRA): small changes to a model's weights, by name, each with a strength."""

from typing import Final

from pydantic import BaseModel

from sa_ray.contracts.record import Record

LORA_NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of adapters: those of their files, without ``.safetensors``."""


class Lora(Record):
    """An adapter that a clip is made with."""

    name: str
    strength: float
    """Factor on what the adapter was trained to change; not 0."""
    sha256: str
    """Lower-case hex digest of its file, so that a clip can be made again, or not at all."""


class LoraFields(BaseModel):
    """Adapters of a clip, as they are resolved and stored: by name, in the order of names."""

    loras: tuple[Lora, ...] = ()
