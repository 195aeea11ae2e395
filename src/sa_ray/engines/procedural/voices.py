"""Voices: turn loops, one-shots and oscillators into sounds of any length."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sa_ray.contracts import SAMPLE_RATE
from sa_ray.engines.procedural.scene import F32, F64, HOP, Scene, Voice

_TABLE = 8192


def looped(loop: F32) -> Voice:
    """Repeat ``loop`` ``[2, size]`` without end."""
    size = loop.shape[1]

    def render(start: int, stop: int) -> F32:
        out = np.empty((2, stop - start), np.float32)
        done = 0
        while done < stop - start:
            at = (start + done) % size
            count = min(size - at, stop - start - done)
            out[:, done : done + count] = loop[:, at : at + count]
            done += count
        return out

    return render


def interpolated(points: npt.ArrayLike) -> Callable[[int, int], F64]:
    """Return samples of a control curve (one point every ``HOP``), linear in between."""
    values = np.asarray(points, np.float64)

    def at(start: int, stop: int) -> F64:
        first = min(max(start // HOP, 0), len(values) - 1)
        near = values[first : max(stop, 0) // HOP + 2]
        return np.interp(np.arange(start, stop), (first + np.arange(len(near))) * HOP, near)

    return at


def shaped(voice: Voice, *points: npt.ArrayLike) -> Voice:
    """Apply a control curve of gain to ``voice``: one for both channels, or left and right."""
    curves = [interpolated(channel) for channel in points]

    def render(start: int, stop: int) -> F32:
        gains = [curve(start, stop).astype(np.float32) for curve in curves]
        if not any(gain.any() for gain in gains):
            return np.zeros((2, stop - start), np.float32)
        out = voice(start, stop)
        out *= np.stack(gains) if len(gains) == 2 else gains[0]
        return out

    return render


def layered(*parts: tuple[float, Voice]) -> Voice:
    """Sum ``(gain, voice)`` pairs."""

    def render(start: int, stop: int) -> F32:
        out = np.zeros((2, stop - start), np.float32)
        for gain, voice in parts:
            out += np.float32(gain) * voice(start, stop)
        return out

    return render


def played(
    times: Sequence[float] | F64,
    clips: Sequence[F32],
    gains: npt.ArrayLike = 1.0,
    pans: npt.ArrayLike = 0.0,
) -> Voice:
    """Play ``clips[i]`` (or the clips in turn) at ``times[i]`` seconds, in any order.

    ``pans``: -1 is left, 1 is right, at equal power.
    """
    starts = np.round(np.asarray(times, np.float64) * SAMPLE_RATE).astype(np.int64)
    order = np.argsort(starts, kind="stable")
    loudness = np.broadcast_to(np.asarray(gains, np.float64), starts.shape)
    angle = (np.broadcast_to(np.asarray(pans, np.float64), starts.shape) + 1) * np.pi / 4
    sides = (loudness * np.stack([np.cos(angle), np.sin(angle)])).astype(np.float32)
    sorted_starts = starts[order]
    longest = max((len(clip) for clip in clips), default=0)

    def render(start: int, stop: int) -> F32:
        out = np.zeros((2, stop - start), np.float32)
        first, last = np.searchsorted(sorted_starts, (start - longest, stop))
        for event in order[first:last]:
            clip, at = clips[event % len(clips)], int(starts[event])
            begin, end = max(at, start), min(at + len(clip), stop)
            if begin < end:
                part = clip[begin - at : end - at]
                out[:, begin - start : end - start] += sides[:, event, None] * part
        return out

    return render


def oscillator(frequency: npt.ArrayLike, harmonics: npt.ArrayLike) -> Voice:
    """A steady tone of these overtones at ``frequency`` (Hz, a control curve), mono."""
    gains = np.asarray(harmonics, np.float64)
    turn = np.arange(_TABLE) / _TABLE
    wave = sum(
        (gain * np.sin(2 * np.pi * (k + 1) * turn) for k, gain in enumerate(gains)),
        np.zeros(_TABLE),
    )
    return cycled(frequency, wave / np.abs(wave).max())


def cycled(frequency: npt.ArrayLike, cycle: npt.NDArray[np.floating]) -> Voice:
    """Repeat one ``cycle`` of any shape at ``frequency`` (Hz, a control curve), mono."""
    hertz = np.asarray(frequency, np.float64)
    turns = np.append(0.0, np.cumsum((hertz[1:] + hertz[:-1]) / 2 * HOP / SAMPLE_RATE))
    phase = interpolated(turns)
    table = cycle.astype(np.float32)

    def render(start: int, stop: int) -> F32:
        where = (phase(start, stop) % 1.0 * len(table)).astype(np.int32)
        return np.tile(table[np.minimum(where, len(table) - 1)], (2, 1))

    return render


def wander(scene: Scene, rate: float, low: float, high: float) -> F64:
    """Draw a smooth random control curve between ``low`` and ``high``, ``rate`` turns a second."""
    times = scene.control_times * rate
    knots = scene.rng.uniform(low, high, int(times[-1]) + 2)
    index = times.astype(np.int64)
    ease = (1 - np.cos(np.pi * (times - index))) / 2
    eased: F64 = knots[index] * (1 - ease) + knots[index + 1] * ease
    return eased


def smoothed(points: F64, seconds: float) -> F64:
    """Smooth a control curve by a moving average over ``seconds``, so that gates do not click."""
    width = max(1, round(seconds * SAMPLE_RATE / HOP))
    padded = np.pad(points, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def muffled(voice: Voice, cutoff: float) -> Voice:
    """Low-pass ``voice`` at ``cutoff`` Hz by a windowed sinc, as air or a wall does."""
    reach = 256
    taps = np.sinc(2 * cutoff / SAMPLE_RATE * np.arange(-reach, reach + 1)) * np.hanning(
        2 * reach + 1
    )
    taps /= taps.sum()

    def render(start: int, stop: int) -> F32:
        wide = voice(start - reach, stop + reach)
        size = 1 << (wide.shape[1] - 1).bit_length()
        spectrum = np.fft.rfft(wide, size) * np.fft.rfft(taps.astype(np.float32), size)
        out = np.fft.irfft(spectrum, size)[:, 2 * reach : 2 * reach + stop - start]
        return out.astype(np.float32, copy=False)

    return render


def roomy(voice: Voice) -> Voice:
    """Add early reflections to ``voice``, which cross to the other side."""
    taps = ((443, 0.22), (811, 0.17), (1307, 0.12))
    reach = max(delay for delay, _ in taps)

    def render(start: int, stop: int) -> F32:
        wide = voice(start - reach, stop)
        out = wide[:, reach:].copy()
        for delay, gain in taps:
            out += np.float32(gain) * wide[::-1, reach - delay : wide.shape[1] - delay]
        return out

    return render
