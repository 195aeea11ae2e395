"""Self-test of a replica before it reports ready: some faults make noise, not errors."""

from typing import Final

import numpy as np
import numpy.typing as npt

from sa_ray.engines.flaws import flaw_of

STATIC: Final = 0.5
"""Spectral flatness above which audio counts as static: white noise has exp(-0.577) = 0.56."""


def fault_of(samples: npt.NDArray[np.float32]) -> str | None:
    """Name the fault of the self-test's clip ``[channels, samples]``; None if it has none."""
    if flaw := flaw_of(samples):
        return f"it {flaw}"
    flatness = spectral_flatness(samples.mean(axis=0))
    if flatness > STATIC:
        return f"it is static (spectral flatness {flatness:.2f})"
    return None


def spectral_flatness(samples: npt.NDArray[np.float32]) -> float:
    """Geometric over arithmetic mean of the power spectrum of ``[samples]``, in [0, 1]."""
    power = np.abs(np.fft.rfft(samples.astype(np.float64))[1:]) ** 2 + 1e-20
    return float(np.exp(np.log(power).mean()) / power.mean())
