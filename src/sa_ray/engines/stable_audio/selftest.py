"""Self-test of a replica before it reports ready: some faults make noise, not errors."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sa_ray.errors import UnavailableError

ATTENTION_TOLERANCE: Final = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest relative error of attention allowed, by dtype."""

SILENCE: Final = 1e-5
"""Standard deviation below which audio counts as constant; full scale is 1."""

STATIC: Final = 0.5
"""Spectral flatness above which audio counts as static: white noise has exp(-0.577) = 0.56."""


def check_attention(*, heads: int, width: int, dtype: Any, device: Any) -> None:
    """Compare the device's masked attention kernel with plain arithmetic in fp32.

    ``width`` is the model's width of one head. Raises ``UnavailableError`` if they differ: a broken
    kernel yields static, and no error.
    """
    generator = torch.Generator().manual_seed(0)
    shape = 2, heads, 200, width
    q, k, v = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3))
    mask = torch.ones(2, 200, dtype=torch.bool, device=device)
    mask[1, 150:] = False
    mask = mask[:, None, None, :]
    found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).float()
    scores = q.float() @ k.float().transpose(-1, -2) / math.sqrt(width)
    expected = scores.masked_fill(~mask, -math.inf).softmax(-1) @ v.float()
    error = float((found - expected).norm() / expected.norm())
    if not error <= ATTENTION_TOLERANCE[dtype]:
        raise UnavailableError(
            f"The self-test failed: masked attention on {device} in {dtype} is off by {error:.3g}, "
            "so every clip would be static. Check the versions of the GPU driver and of torch."
        )


def fault_of(samples: npt.NDArray[np.float32]) -> str | None:
    """Name the fault of the self-test's clip ``[channels, samples]``; None if it has none."""
    if not np.isfinite(samples).all():
        return "it has samples that are not numbers"
    if samples.std() < SILENCE:
        return "it is constant"
    flatness = spectral_flatness(samples.mean(axis=0))
    if flatness > STATIC:
        return f"it is static (spectral flatness {flatness:.2f})"
    return None


def spectral_flatness(samples: npt.NDArray[np.float32]) -> float:
    """Geometric over arithmetic mean of the power spectrum of ``[samples]``, in [0, 1]."""
    power = np.abs(np.fft.rfft(samples.astype(np.float64))[1:]) ** 2 + 1e-20
    return float(np.exp(np.log(power).mean()) / power.mean())
