"""Put clips together: lay a source out, keep it around what is new, turn a clip round."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_Samples = npt.NDArray[np.float32]

Span = tuple[int, int]
"""Samples ``[start, stop)`` of a clip."""


def laid_out(source: _Samples, at: int, frames: int) -> _Samples:
    """Return ``frames`` samples of silence with ``source`` ``[channels, n]`` in them from ``at``.

    What passes the end is cut off.
    """
    if at == 0 and source.shape[1] == frames:
        return source
    clip = np.zeros((source.shape[0], frames), np.float32)
    part = source[:, : max(0, frames - at)]
    clip[:, at : at + part.shape[1]] = part
    return clip


def spliced(source: _Samples, made: _Samples, spans: Sequence[Span], fade: int) -> _Samples:
    """Return ``source`` with ``made`` in its ``spans``; both ``[channels, n]``.

    Outside the spans it is the source to the bit. Within each, the first and the last ``fade``
    samples, or half of it if that is less, go over from one to the other, but not at the ends of
    the clip.
    """
    clip = source.copy()
    for start, stop in spans:
        clip[:, start:stop] = made[:, start:stop]
        length = min(fade, (stop - start) // 2)
        if start > 0:
            into = slice(start, start + length)
            clip[:, into] = _crossfade(source[:, into], made[:, into])
        if stop < clip.shape[1]:
            back = slice(stop - length, stop)
            clip[:, back] = _crossfade(made[:, back], source[:, back])
    return clip


def turned(clip: _Samples, by: int) -> _Samples:
    """Return the clip begun ``by`` samples later, what was before at its end."""
    return np.roll(clip, -by, axis=1)


def smoothest_start(clip: _Samples, reach: int) -> int:
    """Return by how many samples, at most ``reach``, to turn a loop so that its ends differ least.

    Its sound is the same, but a player that does not join the ends exactly is heard less.
    """
    near = np.concatenate([clip[:, -reach - 1 :], clip[:, : reach + 1]], axis=1)
    steps = np.abs(np.diff(near, axis=1)).max(axis=0)
    return int(steps.argmin()) - reach


def _crossfade(old: _Samples, new: _Samples) -> _Samples:
    """Go over from ``old`` to ``new`` without a dip or a swell, however alike they are.

    Equal power suits sounds that have nothing in common, equal gain those that are the same; in
    between, the gains are divided by the power that their sum would have.
    """
    frames = old.shape[1]
    angle = (np.arange(frames) + 0.5) / max(1, frames) * (np.pi / 2)
    norm = float(np.linalg.norm(old)) * float(np.linalg.norm(new))
    alike = float(np.clip(np.vdot(old, new) / norm, 0.0, 1.0)) if norm > 0 else 0.0
    power = np.sqrt(1 + alike * np.sin(2 * angle))
    fall, rise = ((gain / power).astype(np.float32) for gain in (np.cos(angle), np.sin(angle)))
    mixed: _Samples = np.clip(old * fall + new * rise, -1.0, 1.0)
    return mixed
