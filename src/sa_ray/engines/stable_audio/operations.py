"""The element-wise work of a transformer block in a few operations, in torch and in Triton.

The package spends more than half of a step on GPUs in small kernels: norms, modulation, rotary
positions in fp32, gates. Here each group of them is one operation. ``TorchOperations`` says what
they compute, on any device; ``triton_kernels`` does the same in few kernels.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm over the last dimension: ``rms``, or the package's dynamic tanh (``tanh``)."""

    kind: Literal["rms", "tanh"]
    gamma: Any
    beta: Any = None
    alpha: Any = None
    eps: float = 0.0

    def __call__(self, x: Any) -> Any:
        """Normalize ``x`` in fp32, whatever its type; the result is fp32."""
        x, gamma = x.float(), self.gamma.float()
        if self.kind == "rms":
            return functional.rms_norm(x, x.shape[-1:], weight=gamma, eps=self.eps)
        return gamma * torch.tanh(self.alpha.float() * x) + self.beta.float()


def norm_of(module: Any) -> Norm | None:
    """Return what the package's norm ``module`` computes; None if it is another kind."""
    kind = type(module).__name__
    if kind == "RMSNorm":
        return Norm("rms", module.gamma, eps=module.eps)
    if kind == "DynamicTanh":
        return Norm("tanh", module.gamma, module.beta, module.alpha)
    return None


@dataclass(frozen=True, slots=True)
class Modulation:
    """Rows' scales, shifts and gates of one layer: ``values`` ``[rows, 6 * width]``.

    ``scale``, ``shift``, ``gate``: which sixth each is; None leaves that step out.
    """

    values: Any
    scale: int | None = None
    shift: int | None = None
    gate: int | None = None

    def sixth(self, place: int) -> Any:
        """Return ``values`` ``[rows, 1, width]`` at ``place``, in fp32."""
        width = self.values.shape[-1] // 6
        return self.values[:, None, place * width : (place + 1) * width].float()


VALUES: Final = 2
"""Slot of the values among the parts of self-attention: q, k, v and, differential, q and k."""


class Operations(Protocol):
    """What a block needs besides matrix products and attention; ``x``: ``[rows, tokens, width]``.

    Sums are in fp32, and results have the type of ``x``.
    """

    def add(
        self, x: Any, branch: Any, modulation: Modulation | None, local: Any, memory: int
    ) -> Any:
        """Return ``x + branch``, the branch times its gate if ``modulation`` has one.

        ``local``: ``[width]``, or ``[rows, tokens - memory, width]``, added to all tokens but the
        first ``memory``; or None.
        """
        ...

    def normalize(self, x: Any, norm: Norm, modulation: Modulation | None) -> Any:
        """Return the norm of ``x``, scaled and shifted if ``modulation`` says so."""
        ...

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
        """Return ``add`` with ``added``, and ``normalize`` of that with ``normalized``."""
        ...

    def rotate(self, parts: Any, query: Norm, key: Norm, angles: Any) -> Any:
        """Normalize queries and keys, head by head, and rotate them by their position.

        ``parts``: ``[rows, tokens, slots, heads, width]``; may be changed in place. The slots are
        queries, keys, values and, in differential attention, other queries and keys. ``angles``:
        cosines and sines, each fp32 ``[tokens, n]``, for the first ``2 * n`` of a head.
        """
        ...

    def normalize_heads(self, parts: Any, norm: Norm, count: int) -> Any:
        """Normalize the first ``count`` slots of ``parts``, as in ``rotate``; maybe in place."""
        ...

    def gated(self, x: Any) -> Any:
        """Return the first half of the last dimension times SiLU of the second."""
        ...


class TorchOperations:
    """The reference for ``Operations``."""

    def add(
        self, x: Any, branch: Any, modulation: Modulation | None, local: Any, memory: int
    ) -> Any:
        added = branch.float()
        if modulation is not None and modulation.gate is not None:
            added = added * torch.sigmoid(1 - modulation.sixth(modulation.gate))
        added = x.float() + added
        if local is not None:
            heard = local if local.dim() == x.dim() else local.expand(x.shape[1] - memory, -1)
            added = added + functional.pad(heard, (0, 0, memory, 0)).float()
        return added.to(x.dtype)

    def normalize(self, x: Any, norm: Norm, modulation: Modulation | None) -> Any:
        normed = norm(x)
        if modulation is not None and modulation.scale is not None and modulation.shift is not None:
            scale, shift = modulation.sixth(modulation.scale), modulation.sixth(modulation.shift)
            normed = normed * (1 + scale) + shift
        return normed.to(x.dtype)

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
        x = self.add(x, branch, added, local, memory)
        return x, self.normalize(x, norm, normalized)

    def rotate(self, parts: Any, query: Norm, key: Norm, angles: Any) -> Any:
        slots = list(parts.unbind(2))
        for slot, heads in enumerate(slots):
            if slot != VALUES:
                norm = query if slot in (0, 3) else key
                slots[slot] = _rotated(norm(heads), angles).to(parts.dtype)
        return torch.stack(slots, dim=2)

    def normalize_heads(self, parts: Any, norm: Norm, count: int) -> Any:
        normed = [norm(slot).to(parts.dtype) for slot in parts.unbind(2)[:count]]
        return torch.stack([*normed, *parts.unbind(2)[count:]], dim=2)

    def gated(self, x: Any) -> Any:
        kept, gate = x.chunk(2, dim=-1)
        return (kept.float() * functional.silu(gate.float())).to(x.dtype)


def _rotated(heads: Any, angles: Any) -> Any:
    cosines, sines = (part[:, None, :] for part in angles)
    size = cosines.shape[-1]
    first, second, rest = heads.split([size, size, heads.shape[-1] - 2 * size], dim=-1)
    turned = first * cosines - second * sines, second * cosines + first * sines
    return torch.cat([*turned, rest], dim=-1)
