"""Adapters (LoRA) on disk, as the package's training writes them; read without torch."""

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from sa_ray.contracts import LORA_NAME_PATTERN
from sa_ray.errors import GenerationError

_log = logging.getLogger(__name__)

SUFFIX: Final = ".safetensors"

LEFT_OUT: Final = "conditioners.seconds_total."
"""Prefix of the layers whose changes are not taken: with them, the models render silence."""

MAGNITUDES: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "lora": (),
    "dora-rows": (("magnitude", 1),),
    "dora-cols": (("magnitude", 0),),
    "bora": (("magnitude_r", 1), ("magnitude_c", 0)),
}
"""Kinds of adapters: beside ``lora_A`` and ``lora_B``, the tensors that set lengths in a weight
``[outputs, inputs]``, and the dimension that these are taken over: 1 gives those of rows."""

MAX_HEADER_BYTES: Final = 16 << 20
"""Largest header that is read. One with all layers of the largest model has 0.2 MB."""

MAX_BYTES: Final = 1 << 30
"""Largest file that is read. One of rank 128 with all layers of the largest model has 0.33 GB."""

SHOWN: Final = 5
"""Most layers that a message names."""

_KEY: Final = re.compile(
    r"(?P<layer>.+)\.parametrizations\.weight\.0\."
    r"(?P<part>lora_A|lora_B|magnitude|magnitude_r|magnitude_c|M_xs)"
)
_Shape = tuple[int, ...]
_Layers = Mapping[str, Mapping[str, _Shape]]
"""Shapes of the tensors of each layer, by the last part of their keys."""


@dataclass(frozen=True, slots=True)
class AdapterHeader:
    """What the header of an adapter's file says."""

    name: str
    size: int
    """Bytes."""
    kind: str
    """A key of ``MAGNITUDES``."""
    rank: int
    scale: float
    """Factor on the product of the two matrices at strength 1."""
    layers: Mapping[str, tuple[int, int]]
    """Outputs and inputs of the layers that it changes, by the package's names."""
    left_out: tuple[str, ...]
    """Layers that it would change, but for ``LEFT_OUT``."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """The header of an adapter's file, and the digest of the whole."""

    header: AdapterHeader
    sha256: str


class _Tensor(BaseModel):
    dtype: str
    shape: tuple[NonNegativeInt, ...]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


class _Config(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    rank: int | None = Field(default=None, ge=1)
    alpha: float | None = None
    adapter_type: str = "lora"


_HEADER: Final = TypeAdapter(dict[str, Any])
_METADATA: Final = TypeAdapter(dict[str, str])
_TENSORS: Final = TypeAdapter(dict[str, _Tensor])


def kept_as(name: str, sha256: str) -> str:
    """Return the path of a copy, in a variant's folder, that stays when the file is replaced."""
    return f"kept/{name}-{sha256[:16]}{SUFFIX}"


def refusal(name: str, reason: str) -> GenerationError:
    """Return the error for an adapter that cannot be used. ``reason``: a sentence, no full stop."""
    return GenerationError(f"The adapter {name} cannot be used: {reason}.", param="loras")


def list_adapters(folder: Path) -> dict[str, AdapterHeader]:
    """Return the adapters in ``folder`` by name; those that cannot be used are only logged."""
    found = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix == ".ckpt":
            _log.warning("%s is not used: a .ckpt may run code. Convert it to safetensors.", file)
        if file.suffix != SUFFIX:
            continue
        if not re.fullmatch(LORA_NAME_PATTERN, file.stem):
            _log.warning("%s is not used: its name does not match %s.", file, LORA_NAME_PATTERN)
            continue
        try:
            with file.open("rb") as opened:
                start = opened.read(8)
                start += opened.read(min(_length(start), MAX_HEADER_BYTES))
                found[file.stem] = _header(file.stem, start, file.stat().st_size)
        except (GenerationError, OSError) as error:
            _log.warning("%s: %s", file, error)
    return found


def describe(name: str, pieces: Iterable[bytes]) -> AdapterFile:
    """Return what the adapter ``name`` is, whatever the model; ``pieces``: those of its file.

    Of these only the header is kept in memory. Raises ``GenerationError`` (``refusal``) if it is
    none that can be merged.
    """
    digest, size, header = hashlib.sha256(), 0, bytearray()
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        if len(header) < 8 or len(header) < 8 + min(_length(header), MAX_HEADER_BYTES):
            header += piece[: 8 + MAX_HEADER_BYTES]
    return AdapterFile(_header(name, header, size), digest.hexdigest())


def _header(name: str, start: bytes | bytearray, size: int) -> AdapterHeader:
    """``start``: of a file of ``size`` bytes, the whole header at least."""
    tensors, config = _parsed(name, start, size)
    layers = _layers(name, tensors)
    kind = _kind(name, config, layers)
    ranks = {shapes["lora_A"][0] for shapes in layers.values() if shapes.get("lora_A")}
    rank = config.rank or next(iter(ranks), 0)
    sizes = {layer: _sizes(name, layer, shapes, kind, rank) for layer, shapes in layers.items()}
    left_out = tuple(layer for layer in sizes if layer.startswith(LEFT_OUT))
    kept = {layer: found for layer, found in sizes.items() if layer not in left_out}
    if not kept:
        only = f" but those of {LEFT_OUT}, with which the models render silence"
        raise refusal(name, f"it changes no layers{only if left_out else ''}")
    scale = (rank if config.alpha is None else config.alpha) / rank
    return AdapterHeader(name, size, kind, rank, scale, kept, left_out)


def shown(layers: list[str]) -> str:
    """Return the first few of ``layers``, for a message."""
    more = ", ..." if len(layers) > SHOWN else ""
    return ", ".join(sorted(layers)[:SHOWN]) + more


def _length(start: bytes | bytearray) -> int:
    return int.from_bytes(start[:8], "little")


def _parsed(name: str, start: bytes | bytearray, size: int) -> tuple[dict[str, _Tensor], _Config]:
    """Parse the header (8 bytes of its length, then JSON; ``safetensors``, "Format")."""
    length = _length(start)
    try:
        if length > MAX_HEADER_BYTES:
            raise ValueError
        header = _HEADER.validate_json(bytes(start[8 : 8 + length]))
        metadata = _METADATA.validate_python(header.pop("__metadata__", {}))
        tensors = _TENSORS.validate_python(header)
    except ValueError:
        raise refusal(name, "its file is not one of safetensors") from None
    if 8 + length + max((one.data_offsets[1] for one in tensors.values()), default=0) != size:
        raise refusal(name, "its file is not whole")
    try:
        config = _Config.model_validate_json(metadata.get("lora_config", "{}"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("lora_config", *map(str, first["loc"])))
        raise refusal(name, f"{where} in its metadata is wrong: {first['msg']}") from None
    return tensors, config


def _layers(name: str, tensors: Mapping[str, _Tensor]) -> _Layers:
    layers: dict[str, dict[str, _Shape]] = defaultdict(dict)
    unknown = []
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            unknown.append(key)
        elif tensor.dtype not in ("F16", "BF16", "F32"):
            raise refusal(name, f"{key} is {tensor.dtype}, and none of F16, BF16 and F32")
        else:
            layers[match["layer"]][match["part"]] = tensor.shape
    if unknown:
        raise refusal(
            name, f"it has keys that the package's training does not write ({shown(unknown)})"
        )
    return layers


def _kind(name: str, config: _Config, layers: _Layers) -> str:
    kind = config.adapter_type
    if kind == "dora":  # as older releases of the package called both
        shapes = (parts["magnitude"] for parts in layers.values() if "magnitude" in parts)
        first = next(shapes, ())
        kind = "dora-cols" if len(first) == 2 and first[0] == 1 else "dora-rows"
    if kind not in MAGNITUDES:
        raise refusal(
            name,
            f"its adapter_type is {kind[:40]!r}, and the service merges {', '.join(MAGNITUDES)}",
        )
    return kind


def _sizes(
    name: str, layer: str, shapes: Mapping[str, _Shape], kind: str, rank: int
) -> tuple[int, int]:
    """Return the outputs and inputs of ``layer``, whose tensors must agree on them."""
    magnitudes = MAGNITUDES[kind]
    wanted = {"lora_A", "lora_B", *(part for part, _ in magnitudes)}
    if shapes.keys() != wanted:
        raise refusal(
            name,
            f"a layer of {kind} has {', '.join(sorted(wanted))}, but {layer} has "
            f"{', '.join(sorted(shapes))}",
        )
    down, up = shapes["lora_A"], shapes["lora_B"]
    if not rank or len(down) != 2 or len(up) != 2 or (down[0], up[1]) != (rank, rank):
        raise refusal(
            name,
            f"at rank {rank}, lora_A is [{rank}, inputs] and lora_B [outputs, {rank}], but those "
            f"of {layer} are {list(down)} and {list(up)}",
        )
    found = up[0], down[1]
    for part, over in magnitudes:
        length = found[1 - over]
        if sorted(shapes[part]) not in ([length], sorted((1, length))):
            raise refusal(
                name, f"{part} of {layer} is {list(shapes[part])}, and {length} are wanted"
            )
    return found
