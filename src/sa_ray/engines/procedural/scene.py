"""``Scene``, the input of a recipe, and ``Voice``, its result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sa_ray.contracts import SAMPLE_RATE

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

Voice = Callable[[int, int], F32]
"""``voice(start, stop)``: float32 ``[2, stop - start]``, samples ``start`` to ``stop`` of a sound.

A pure function of the range, which may begin before 0, so a clip may be cut into blocks anywhere.
"""

HOP: Final = 256
"""Samples between the points of a control curve (envelopes, pitch contours)."""

_MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
_MINOR: Final = (0, 2, 3, 5, 7, 8, 10)
_MAJOR_PROGRESSION: Final = (0, 4, 5, 3)
_MINOR_PROGRESSION: Final = (0, 5, 2, 6)


@dataclass(frozen=True, slots=True)
class Scene:
    """One layer's view of a request."""

    samples: int
    rng: np.random.Generator
    """Random generator of this layer; differs with the seed."""
    identity: np.random.Generator
    """Random generator keyed by the prompt's words; the same for every seed."""
    bpm: float | None
    """Beats per minute if the prompt gives them."""
    root: float
    """Hz of the tonic, shared by all layers."""
    minor: bool
    pace: float = 1.0
    """Above 1: faster, denser in time."""
    pitch: float = 1.0
    """Above 1: higher."""
    intensity: float = 1.0
    """Above 1: heavier, stormier."""

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    @property
    def lead(self) -> float:
        """Seconds before the first event: short, so that even tiny clips hold one."""
        return min(0.02, 0.02 * self.seconds)

    @property
    def control_times(self) -> F64:
        """Seconds at each control point, one point past the end included."""
        return np.arange(self.samples // HOP + 2, dtype=np.float64) * (HOP / SAMPLE_RATE)

    def tempo(self, default: float) -> float:
        """Return the prompt's beats per minute, or else ``default`` at the prompt's pace."""
        return self.bpm if self.bpm is not None else default * self.pace

    def every(self, period: float, jitter: float = 0.0) -> F64:
        """Event times in seconds, ``period`` apart, each late by up to ``jitter`` periods."""
        times = np.arange(self.lead, self.seconds, period)
        late = self.rng.uniform(0, jitter * period, len(times))
        late[:1] = 0
        return times + late

    def shots(self, period: float) -> F64:
        """Times of big events: as ``every``, but none in the last half period of the clip."""
        times = self.every(period / self.pace, jitter=0.15)
        whole = times < self.seconds - 0.5 * period / self.pace
        whole[:1] = True
        return np.compress(whole, times)

    def scattered(self, per_second: float) -> F64:
        """Times of a Poisson process, in seconds and sorted, with one event at the start."""
        count = self.rng.poisson(per_second * self.pace * self.seconds)
        return np.sort(np.append(self.rng.uniform(0, self.seconds, count), self.lead))

    def note(self, degree: int, octave: int = 0) -> float:
        """Return the Hz of a scale degree: 0 is the tonic, and any integer is valid."""
        scale = _MINOR if self.minor else _MAJOR
        semitones = scale[degree % 7] + 12 * (degree // 7 + octave)
        return float(self.root * self.pitch * 2 ** (semitones / 12))

    def chord(self, bar: int) -> tuple[int, int, int]:
        """Return the scale degrees of the triad of a bar, in a loop of four bars."""
        progression = _MINOR_PROGRESSION if self.minor else _MAJOR_PROGRESSION
        base = progression[bar % 4]
        return base, base + 2, base + 4
