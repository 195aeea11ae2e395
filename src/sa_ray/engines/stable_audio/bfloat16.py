"""Matrix products in bfloat16 on CPUs that have instructions for it: twice the speed of fp32."""

from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

CPU_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls such instructions in ``/proc/cpuinfo``: of x86 processors, and of Arm's."""

SMALLEST_WEIGHT: Final = 1 << 16
"""Elements of a weight below which converting its input costs what the product saves."""


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; where it does not, emulating it is slow."""
    try:
        return not CPU_FLAGS.isdisjoint(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False


def multiply_in_bfloat16(model: Any, *, smallest_weight: int = SMALLEST_WEIGHT) -> None:
    """Have the large layers of both transformers of ``model`` multiply in bfloat16.

    Only the products are: sums, norms, attention, noise levels and what passes from layer to
    layer stay fp32. Changes ``model``, the package's wrapper, in place.
    """
    for layers in (model.model.model.transformer.layers, model.pretransform.model.decoder.layers):
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
