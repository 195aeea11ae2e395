"""Find clips that nobody can have wanted: broken numbers, or no sound at all."""

from typing import Final

import numpy as np
import numpy.typing as npt

from sa_ray.contracts import INAUDIBLE

NOT_NUMBERS: Final = "has samples that are not numbers"
"""The one flaw of a clip that cannot be encoded either."""


def flaw_of(samples: npt.NDArray[np.float32]) -> str | None:
    """Return what is wrong with a clip ``[channels, samples]``, as a predicate; None if nothing is.

    Only what no prompt asks for: noise may be what was wanted.
    """
    lowest, highest = samples.min(axis=1), samples.max(axis=1)
    if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
        return NOT_NUMBERS
    if (highest - lowest).max() > 2 * INAUDIBLE:
        return None
    return "is constant" if max(highest.max(), -lowest.min()) > INAUDIBLE else "is silent"
