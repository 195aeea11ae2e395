"""Matrix products in bfloat16 on CPUs that have instructions for it: twice the speed of fp32."""

from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

CPU_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags in Linux's ``/proc/cpuinfo`` of CPUs with such instructions: two of x86, then Arm's."""

SMALLEST_WEIGHT: Final = 1 << 16
"""Smallest weight to convert, elements: below it, converting the input costs all that is saved."""


def has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16; elsewhere it is emulated, which is slow."""
    try:
        return not CPU_FLAGS.isdisjoint(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False


def multiply_in_bfloat16(model: Any, *, smallest_weight: int = SMALLEST_WEIGHT) -> None:
    """Have the large layers of all transformers of ``model`` multiply in bfloat16.

    Only the products change: sums, norms, attention, noise levels and the values passed from layer
    to layer stay fp32. Changes ``model``, the package's wrapper, in place.
    """
    coder = model.pretransform.model
    for layers in (
        model.model.model.transformer.layers,
        coder.decoder.layers,
        coder.encoder.layers,
    ):
        for module in layers.modules():
            if isinstance(module, torch.nn.Linear) and module.weight.numel() >= smallest_weight:
                module.to(torch.bfloat16)
                module.forward = _Product(module)


class _Product:
    def __init__(self, linear: Any) -> None:
        self._linear = linear

    def __call__(self, x: Any) -> Any:
        product = functional.linear(x.bfloat16(), self._linear.weight, self._linear.bias)
        return product.to(x.dtype)
