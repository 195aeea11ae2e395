"""Adapters (LoRA): small changes to a model's weights, by name, each with a strength."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from sa_ray.contracts.asked import Asked
from sa_ray.contracts.names import VariantName
from sa_ray.contracts.record import Record

LORA_NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of adapters: those of their files, without ``.safetensors``."""


MAX_LORAS: Final = 4
"""Most adapters of one request."""

MAX_STRENGTH: Final = 10.0
"""Farthest strength from 0, to either side."""


def _lora_name(text: str) -> str:
    if not re.fullmatch(LORA_NAME_PATTERN, text):
        raise ValueError("must be the name of an adapter, as GET /v1/loras lists them")
    return text


class LoraRequest(Asked):
    """An adapter that a clip is to be made with."""

    name: Annotated[str, StringConstraints(max_length=64), AfterValidator(_lora_name)] = Field(
        description="As `GET /v1/loras` lists it."
    )
    strength: float = Field(
        default=1.0,
        ge=-MAX_STRENGTH,
        le=MAX_STRENGTH,
        description="Factor on what the adapter changes: 1 as it was trained, 0 nothing, below 0 "
        "the opposite.",
    )


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


class LoraView(BaseModel):
    """An adapter that requests can name."""

    name: str
    model: VariantName
    size_bytes: int
    sha256: str
    kind: str = Field(description="`lora`, `dora-rows`, `dora-cols` or `bora`.")
    rank: int
    note: str | None = Field(description="What of it is not used, and why. Null: it is used whole.")


class LoraList(BaseModel):
    loras: list[LoraView]
