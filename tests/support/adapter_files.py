"""Files of adapters without torch: their tensors are zeros."""

import json
import math
from typing import Any

SIZES = {"F16": 2, "F32": 4, "I64": 8, "F8_E4M3": 1}
QKV, OUT, SECONDS = (
    "model.transformer.layers.0.self_attn.to_qkv",
    "model.transformer.layers.0.self_attn.to_out",
    "conditioners.seconds_total.embedder.embedding.1",
)


def key(layer: str, part: str) -> str:
    return f"{layer}.parametrizations.weight.0.{part}"


def tensors(layer: str, outputs: int = 12, inputs: int = 4, rank: int = 2) -> dict[str, list[int]]:
    return {key(layer, "lora_A"): [rank, inputs], key(layer, "lora_B"): [outputs, rank]}


def written(shapes: dict[str, list[int]], config: Any = None, dtype: str = "F16") -> bytes:
    """A file of safetensors with zeros of these shapes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    if config is not None:
        header["__metadata__"] = {"lora_config": json.dumps(config)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)
