"""Turn float samples into those that files hold."""

from typing import Final

import numpy as np
import numpy.typing as npt

from sa_ray.errors import GenerationError

SHORT_BITS: Final = 16

_Samples = npt.NDArray[np.float32]


def within_range(samples: _Samples) -> _Samples:
    """Return ``samples`` clipped to [-1, 1]; the very same array if all of them are in it.

    Raises ``GenerationError`` if one is not finite.
    """
    lowest, highest = float(samples.min()), float(samples.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise GenerationError(
            "The model produced samples that are not numbers. Try another seed; if it "
            "happens again, set STABLE_AUDIO_MODEL_HALF=0."
        )
    return samples if lowest >= -1 and highest <= 1 else np.clip(samples, -1.0, 1.0)


def to_integers(samples: _Samples, bits: int) -> npt.NDArray[np.signedinteger]:
    """Round float32 ``samples``, in [-1, 1], to integers as libsndfile takes them: int16, or the
    upper ``bits`` bits of int32."""
    # libsndfile's own conversion truncates in WAV files: half a step of bias.
    scale = np.float32(1 << bits - 1)  # decoders divide by it, so decoding inverts the scaling
    scaled = samples * scale
    np.rint(scaled, out=scaled)
    np.clip(scaled, -scale, scale - 1, out=scaled)  # a third of what `np.minimum` takes
    if bits == SHORT_BITS:
        return scaled.astype(np.int16)
    return scaled.astype(np.int32) << (32 - bits)  # the upper bits count
