"""``Operations`` in one Triton kernel each."""

from typing import Any, Final

import torch
import triton

from sa_ray.engines.stable_audio.operations import Modulation, Norm
from sa_ray.engines.stable_audio.triton_kernels import add_normalize, gated, rotate

GATED_BLOCK: Final = 1024
"""Values that one program of ``gated`` computes."""


class TritonOperations:
    """See ``Operations``. Tensors must be contiguous; ``rotate`` works in place."""

    def add(
        self, x: Any, branch: Any, modulation: Modulation | None, local: Any, memory: int
    ) -> Any:
        total, _ = self._launch(x, branch, None, modulation, None, local, memory)
        return total

    def normalize(self, x: Any, norm: Norm, modulation: Modulation | None) -> Any:
        _, normed = self._launch(x, None, norm, None, modulation, None, 0)
        return normed

    def add_normalize(
        self,
        x: Any,
        branch: Any,
        norm: Norm,
        *,
        added: Modulation | None = None,
        normalized: Modulation | None = None,
        local: Any = None,
        memory: int = 0,
    ) -> tuple[Any, Any]:
        return self._launch(x, branch, norm, added, normalized, local, memory)

    def _launch(
        self,
        x: Any,
        branch: Any,
        norm: Norm | None,
        added: Modulation | None,
        normalized: Modulation | None,
        local: Any,
        memory: int,
    ) -> tuple[Any, Any]:
        rows, tokens, width = x.shape
        x = x.contiguous()
        total = x if branch is None else torch.empty_like(x)
        normed = x if norm is None else torch.empty_like(x)
        gate = None if added is None else added.gate
        modulated = normalized is not None and normalized.scale is not None
        add_normalize[(rows * tokens,)](
            x,
            x if branch is None else branch.contiguous(),
            x if added is None else added.values,
            x if normalized is None else normalized.values,
            x if local is None else local.contiguous(),
            *_pointers(norm, x),
            total,
            normed,
            width,
            tokens,
            memory,
            gate or 0,
            normalized.scale or 0 if normalized else 0,
            normalized.shift or 0 if normalized else 0,
            norm.eps if norm else 0.0,
            BRANCH=branch is not None,
            GATE=gate is not None,
            LOCAL=0 if local is None else 1 if local.dim() == 1 else 2,
            KIND=_kind(norm),
            MODULATED=modulated,
            BLOCK=triton.next_power_of_2(width),
        )
        return total, normed

    def rotate(self, parts: Any, query: Norm, key: Norm, angles: Any) -> Any:
        return self._heads(parts, query, key, parts.shape[2] - 1, 1, angles)

    def normalize_heads(self, parts: Any, norm: Norm, count: int) -> Any:
        return self._heads(parts, norm, norm, count, 0, None)

    def _heads(self, parts: Any, even: Norm, odd: Norm, count: int, gap: int, angles: Any) -> Any:
        """Treat ``count`` slots, of which ``gap`` after the second are left out."""
        rows, tokens, slots, heads, width = parts.shape
        size = width // 2 if angles is None else angles[0].shape[-1]
        rotate[(rows * tokens, count)](
            parts,
            parts if angles is None else angles[0],
            parts if angles is None else angles[1],
            *_pointers(even, parts),
            *_pointers(odd, parts),
            even.eps,
            tokens,
            slots,
            heads,
            gap,
            KIND=_kind(even),
            ANGLES=angles is not None,
            HEADS=triton.next_power_of_2(heads),
            SIZE=size,
            REST=width - 2 * size,
        )
        return parts

    def gated(self, x: Any) -> Any:
        width = x.shape[-1] // 2
        x = x.contiguous()
        out = torch.empty(*x.shape[:-1], width, dtype=x.dtype, device=x.device)
        places = out.numel() // width
        gated[(places, triton.cdiv(width, GATED_BLOCK))](x, out, width, BLOCK=GATED_BLOCK)
        return out


def _kind(norm: Norm | None) -> int:
    return 0 if norm is None else {"rms": 1, "tanh": 2}[norm.kind]


def _pointers(norm: Norm | None, unused: Any) -> tuple[Any, Any, Any]:
    if norm is None:
        return unused, unused, unused
    return (
        norm.gamma,
        unused if norm.beta is None else norm.beta,
        unused if norm.alpha is None else norm.alpha,
    )
