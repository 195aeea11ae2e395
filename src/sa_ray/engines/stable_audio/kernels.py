"""Pick the kernels for a device: Triton's, where they work and agree with torch."""

import logging
from collections.abc import Iterator
from typing import Any, Final

import torch

from sa_ray.engines.stable_audio.operations import Modulation, Norm, Operations, TorchOperations

_log = logging.getLogger(__name__)

TOLERANCE: Final = 1e-2
"""Largest relative difference from the reference in fp16 at which kernels are used."""

UNFUSED: Final = (
    "transformer blocks are not fused: the log says why. Triton, which does it, needs a C compiler."
)
"""Why a replica on CUDA without operations is slow."""


def choose_operations(device: Any) -> Operations | None:
    """Return operations for ``device`` that work there; None: keep to the package's code.

    Triton compiles at the first use, for which it needs a C compiler.
    """
    if device.type != "cuda":
        return None
    try:
        from sa_ray.engines.stable_audio.triton_operations import TritonOperations

        operations = TritonOperations()
        error = _error(operations, device)
    except Exception as failure:  # noqa: BLE001 - of compilers, linkers, drivers
        _log.warning("transformer blocks are not fused, so steps are slower: %s", failure)
        return None
    if not error <= TOLERANCE:
        _log.warning("transformer blocks are not fused: Triton is off by %.3g", error)
        return None
    return operations


def _error(operations: Operations, device: Any) -> float:
    """Return the largest relative difference of ``operations`` from the reference."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(device, torch.float16)

    x, branch, parts = draw(2, 9, 192), draw(2, 9, 192), draw(2, 9, 5, 3, 64)
    norm, head = Norm("rms", draw(192), eps=1e-5), Norm("rms", draw(64), eps=1e-5)
    tanh = Norm("tanh", draw(192), draw(192), draw(1))
    modulation = Modulation(draw(2, 6 * 192), 0, 1, 2)
    angles = draw(9, 16).float(), draw(9, 16).float()

    def results(one: Operations) -> Iterator[Any]:
        for local in (branch[0, 0], branch[:, 3:]):
            yield from one.add_normalize(
                x, branch, norm, added=modulation, normalized=modulation, local=local, memory=3
            )
        yield one.normalize(x, tanh, None)
        yield one.rotate(parts.clone(), head, head, angles)
        yield one.normalize_heads(parts.clone(), head, 2)
        yield one.gated(x)

    errors = [
        float((found - expected).float().norm() / expected.float().norm())
        for found, expected in zip(results(operations), results(TorchOperations()), strict=True)
    ]
    return float(torch.tensor(errors).max())  # which is NaN if one is
