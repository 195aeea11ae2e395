"""Attention kernels: the fastest that is right on this device, chosen when a replica starts."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch.nn import functional

from sa_ray.engines.stable_audio.device_faults import is_device_lost, is_out_of_memory
from sa_ray.errors import UnavailableError

_log = logging.getLogger(__name__)

TOLERANCE: Final = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest relative error of a kernel allowed, by dtype."""

TOKENS: Final = (200, 256, 321, 417)
"""Lengths to check: they differ modulo 128, the tile of most kernels, so that each way of handling
a last, partial tile is met."""

BLOCK: Final = 128
"""Queries attended together under a window; they reach a window more on either side."""

WINDOW: Final = 17
"""Window to check, tokens: that of the decoder of ``medium``."""

ROUNDS: Final = 10
"""Calls timed together, after one that is not."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Leading keys that each row attends to.

    ``used``: int32 ``[rows]``. ``starts``: int32 ``[rows + 1]``, the first token of each row when
    the rows of a batch, ``tokens`` each, follow each other.
    """

    used: Any
    starts: Any

    @classmethod
    def of(cls, used: Any, tokens: int) -> "Keys":
        starts = torch.arange(0, (len(used) + 1) * tokens, tokens, device=used.device)
        return cls(used.int(), starts.int())


class Attend(Protocol):
    """Attention over ``q``, ``k``, ``v`` ``[rows, tokens, heads, width]``; returns such a tensor.

    ``keys``: how many keys count; None: all. ``window``: a query attends to that many keys on
    either side of its own; None: to all.
    """

    def __call__(
        self, q: Any, k: Any, v: Any, *, keys: Keys | None = None, window: int | None = None
    ) -> Any: ...


def flash(q: Any, k: Any, v: Any, *, keys: Keys | None = None, window: int | None = None) -> Any:
    """FlashAttention 2 as built into torch: fp16 or bf16, from compute capability 8.0."""
    attend = torch.ops.aten._flash_attention_forward  # noqa: SLF001 - no public one counts keys
    if keys is None:
        sides = {"window_size_left": window, "window_size_right": window} if window else {}
        return attend(q, k, v, None, None, q.shape[1], k.shape[1], 0.0, False, False, **sides)[0]
    out = attend(
        *(part.flatten(0, 1) for part in (q, k, v)),
        keys.starts,
        keys.starts,
        q.shape[1],
        k.shape[1],
        0.0,
        False,
        False,
        seqused_k=keys.used,
    )[0]
    return out.unflatten(0, q.shape[:2])


def masked(q: Any, k: Any, v: Any, *, keys: Keys | None = None, window: int | None = None) -> Any:
    """Torch's own choice of a kernel, with a mask; on any device."""
    if window is not None:
        return _banded(q, k, v, window)
    mask = None if keys is None else _mask(keys, k.shape[1])
    heads = (part.transpose(1, 2) for part in (q, k, v))
    return functional.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2)


def plain(q: Any, k: Any, v: Any, *, keys: Keys | None = None, window: int | None = None) -> Any:
    """Plain arithmetic in fp32: the reference, slow and large."""
    tokens = k.shape[1]
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) / math.sqrt(q.shape[-1])
    if keys is not None:
        scores = scores.masked_fill(~_mask(keys, tokens), -math.inf)
    if window is not None:
        place = torch.arange(tokens, device=q.device)
        scores = scores.masked_fill((place[:, None] - place).abs() > window, -math.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.float()).to(v.dtype)


def choose_attention(*, heads: int, width: int, dtype: Any, device: Any) -> Attend:
    """Return the fastest kernel that agrees with ``plain`` on ``device``, or else ``plain``.

    A broken kernel yields static, and no error. Raises ``UnavailableError`` if not even ``plain``
    works.
    """
    if device.type == "cuda":
        # It plans for 40 ms at every new shape, in each thread, and masks cost it twice the time.
        torch.backends.cuda.enable_cudnn_sdp(False)
    samples = list(_samples(heads, width, dtype, device))
    taken: dict[str, float] = {}
    for attend in _candidates(dtype, device):
        fault = _fault(attend, samples)
        if fault is None:
            taken[attend.__name__] = _seconds(attend, samples[-1], device)
        else:
            _log.warning("%s attention is not used on %s: %s", attend.__name__, device, fault)
    if not taken:
        return plain
    chosen = min(taken, key=taken.__getitem__)
    _log.info("attention on %s: %s of %s", device, chosen, taken)
    return {"flash": flash, "masked": masked}[chosen]


@dataclass(frozen=True, slots=True)
class _Sample:
    parts: tuple[Any, Any, Any]
    keys: Keys
    expected: tuple[Any, Any]


def _candidates(dtype: Any, device: Any) -> list[Callable[..., Any]]:
    half = dtype in (torch.float16, torch.bfloat16)
    if device.type == "cuda" and half and torch.cuda.get_device_capability(device) >= (8, 0):
        return [flash, masked]
    return [masked]


def _samples(heads: int, width: int, dtype: Any, device: Any) -> Iterator[_Sample]:
    generator = torch.Generator().manual_seed(0)
    for tokens in TOKENS:
        shape = 2, tokens, 3, heads, width
        parts = torch.randn(shape, generator=generator).to(device, dtype).unbind(2)
        keys = Keys.of(torch.tensor([tokens, tokens - 51], device=device), tokens)
        yield _Sample(parts, keys, (plain(*parts, keys=keys), plain(*parts, window=WINDOW)))


def _fault(attend: Attend, samples: list[_Sample]) -> str | None:
    for sample in samples:
        try:
            found = (
                attend(*sample.parts, keys=sample.keys),
                attend(*sample.parts, window=WINDOW),
            )
        except RuntimeError as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise  # no fault of the kernel
            return str(error).partition("\n")[0]
        for one, expected in zip(found, sample.expected, strict=True):
            if not expected.isfinite().all():
                raise UnavailableError(
                    f"The self-test failed: {expected.device} cannot multiply matrices. Check the "
                    "versions of the GPU driver and of torch."
                )
            off = float((one.float() - expected.float()).norm() / expected.float().norm())
            if not off <= TOLERANCE[expected.dtype]:
                return f"it is off by {off:.3g} at {expected.shape[1]} tokens"
    return None


def _seconds(attend: Attend, sample: _Sample, device: Any) -> float:
    for calls in (1, ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            attend(*sample.parts, keys=sample.keys)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif calls == 1:
            return 0.0  # the only candidate
    return (time.perf_counter() - started) / ROUNDS


def _mask(keys: Keys, tokens: int) -> Any:
    place = torch.arange(tokens, device=keys.used.device)
    return (place < keys.used[:, None])[:, None, None, :]


def _banded(q: Any, k: Any, v: Any, window: int) -> Any:
    """Attend block by block, each with the keys that its window reaches."""
    rows, tokens, _, _ = q.shape
    blocks = math.ceil(tokens / BLOCK)
    spare = blocks * BLOCK - tokens
    q = functional.pad(q, (0, 0, 0, 0, 0, spare)).unflatten(1, (blocks, BLOCK))
    k, v = (
        functional.pad(part, (0, 0, 0, 0, window, window + spare))
        .unfold(1, BLOCK + 2 * window, BLOCK)
        .permute(0, 1, 2, 4, 3)
        .flatten(0, 1)
        for part in (k, v)
    )
    query = torch.arange(BLOCK, device=q.device)[:, None]
    key = torch.arange(BLOCK + 2 * window, device=q.device) - window
    near = (query - key).abs() <= window
    place = key + BLOCK * torch.arange(blocks, device=q.device)[:, None]
    # A query past the end would attend to nothing, which is NaN; what it yields is cut off.
    there = ((place >= 0) & (place < tokens + spare))[:, None, :]
    real = ((place >= 0) & (place < tokens))[:, None, :]
    beyond = (query + BLOCK * torch.arange(blocks, device=q.device)[:, None, None]) >= tokens
    mask = (near & torch.where(beyond, there, real)).repeat(rows, 1, 1)[:, None]
    out = functional.scaled_dot_product_attention(
        q.flatten(0, 1).transpose(1, 2), k, v, attn_mask=mask
    )
    out = out.transpose(1, 2).unflatten(0, (rows, blocks)).flatten(1, 2)
    return out[:, :tokens]
