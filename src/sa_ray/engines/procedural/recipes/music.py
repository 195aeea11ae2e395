"""Pitched instruments: they share the key, the tempo and the chords of the scene."""

import numpy as np

from sa_ray.contracts import SAMPLE_RATE
from sa_ray.engines.procedural.loops import loop_size, pad_loop
from sa_ray.engines.procedural.recipes.clips import (
    VOWEL_A,
    burst,
    clock,
    finish,
    glide,
    mixed,
    partials,
    resonance,
)
from sa_ray.engines.procedural.scene import F32, F64, Scene, Voice
from sa_ray.engines.procedural.voices import layered, looped, played, shaped, smoothed, wander

_TEMPO = 110.0
_CHORD_LOOP = 2**18


def _bar_seconds(scene: Scene) -> float:
    return 240 / scene.tempo(_TEMPO)


def _sequence(scene: Scene, notes_per_beat: float) -> tuple[F64, list[int]]:
    """Onsets on a grid, and for each a scale degree: a walk over the notes of the bar's chord."""
    step = 60 / scene.tempo(_TEMPO) / notes_per_beat
    times = scene.every(step)
    walk = np.cumsum(scene.rng.choice((-1, 1, 1, 2), len(times))) % 6
    bars = ((times - scene.lead + 1e-6) / _bar_seconds(scene)).astype(int)
    degrees = [
        scene.chord(bar)[place % 3] + 7 * (int(place) // 3)
        for bar, place in zip(bars.tolist(), walk.tolist(), strict=True)
    ]
    return times, degrees


def _melody(
    times: F64, degrees: list[int], clips: dict[int, F32], scene: Scene, gain: float
) -> Voice:
    gains = gain * scene.rng.uniform(0.7, 1.0, len(times))
    return layered(
        *(
            (1.0, played(times[chosen], [clip], gains[chosen], 0.08 * (degree % 7 - 3)))
            for degree, clip in clips.items()
            if (chosen := np.array(degrees) == degree).any()
        )
    )


def piano(scene: Scene) -> Voice:
    """Broken chords on a piano."""
    times, degrees = _sequence(scene, 2)
    clips = {d: _piano_note(scene, scene.note(d, 1)) for d in set(degrees)}
    return _melody(times, degrees, clips, scene, 0.9)


def _piano_note(scene: Scene, pitch: float) -> F32:
    """Stiff strings: partial k at ``k f sqrt(1 + B k^2)`` (Fletcher, 1964)."""
    k = np.arange(1, 17)
    freqs = k * pitch * np.sqrt(1 + 4e-4 * k**2)
    amps = np.exp(-k / 4.0) * np.abs(np.sin(np.pi * k / 7.5))
    taus = 1.3 * (220 / pitch) ** 0.4 / k**0.7
    # Two polarisations: a fast one heard first, and a slow, weak aftersound (Weinreich, 1977).
    string = partials(
        min(2.4, max(scene.seconds, 0.2)),
        np.append(freqs, freqs * 1.0004), np.append(amps, 0.25 * amps), np.append(taus * 0.4, taus),
        attack=0.002,
    )  # fmt: skip
    return mixed((1.0, string), (0.06, burst(scene.rng, 0.06, 150, 1500, 0.012)))


def guitar(scene: Scene) -> Voice:
    """Plucked strings, picked one after the other."""
    times, degrees = _sequence(scene, 3)
    clips = {d: _plucked(scene, scene.note(d), 1.8, 0.13) for d in set(degrees)}
    return _melody(times, degrees, clips, scene, 0.4)


def _plucked(scene: Scene, pitch: float, seconds: float, where: float) -> F32:
    """A string plucked at ``where`` of its length: amplitudes ``sin(pi k where) / k``.

    Partial k decays as in the Karplus-Strong loop (Jaffe and Smith, 1983). Its averaging filter
    multiplies the partial by ``cos(pi f_k / rate)`` in each period, here with a loss of 0.996.
    """
    k = np.arange(1, max(2, min(40, int(9000 / pitch))))
    freqs = k * pitch
    amps = np.sin(np.pi * k * where) / k**1.1
    loss = 0.996 * np.cos(np.pi * freqs / SAMPLE_RATE)
    taus = np.minimum(-1 / (pitch * np.log(loss)), 3.0)
    return partials(min(seconds, max(scene.seconds, 0.2)), freqs, amps, taus)


def bass(scene: Scene) -> Voice:
    """A bass guitar on the root of every chord, in eighths."""
    step = 30 / scene.tempo(_TEMPO)
    times = scene.every(step)
    bars = ((times - scene.lead + 1e-6) / _bar_seconds(scene)).astype(int)
    degrees = [scene.chord(bar)[0] for bar in bars.tolist()]
    clips = {d: _plucked(scene, scene.note(d % 5, -1), 0.9, 0.3) for d in set(degrees)}
    return _melody(times, degrees, clips, scene, 0.5)


def synth(scene: Scene) -> Voice:
    """An arpeggiator: sixteenth notes of a saw whose filter snaps shut."""
    times, degrees = _sequence(scene, 4)
    clips = {d: _saw_note(scene.note(d, 1)) for d in set(degrees)}
    return _melody(times, degrees, clips, scene, 0.65)


def _saw_note(pitch: float) -> F32:
    k = np.arange(1, max(2, int(12_000 / pitch)))
    freqs = np.concatenate([k * pitch, k * pitch * 1.006])
    amps = np.tile(1 / k, 2)
    return partials(0.3, freqs, amps, np.tile(0.25 / k**0.6, 2), attack=0.004)


def flute(scene: Scene) -> Voice:
    """A slow tune on a flute, with breath and vibrato."""
    times, degrees = _sequence(scene, 1)
    length = 62 / scene.tempo(_TEMPO)
    clips = {d: _flute_note(scene, scene.note(d, 2), length) for d in set(degrees)}
    return _melody(times, degrees, clips, scene, 0.4)


def _flute_note(scene: Scene, pitch: float, length: float) -> F32:
    time = clock(length)
    vibrato = 1 + 0.006 * np.sin(2 * np.pi * 5.2 * time) * np.minimum(time / 0.3, 1)
    tone = finish(glide(pitch * vibrato, (1, 0.28, 0.12, 0.03)), 0.07, 0.09)
    breath = finish(burst(scene.rng, length, 0.8 * pitch, 4 * pitch, 1e3), 0.04, 0.09)
    return mixed((1.0, tone), (0.09, breath))


def trumpet(scene: Scene) -> Voice:
    """A brass fanfare."""
    times, degrees = _sequence(scene, 2)
    length = 28 / scene.tempo(_TEMPO)
    clips = {d: _brass_note(scene.note(d, 1), length) for d in set(degrees)}
    return _melody(times, degrees, clips, scene, 0.8)


def _brass_note(pitch: float, length: float) -> F32:
    """Brightness follows loudness, as in brass (Risset, 1966): overtones swell in late."""
    time = clock(length)
    dull = glide(np.full(len(time), pitch), (1, 0.7, 0.4, 0.15))
    bright = glide(np.full(len(time), pitch), [0.9 / k**0.35 for k in range(1, 14)])
    blow = np.minimum(time / 0.07, 1) * np.exp(-time / (2 * length))
    return finish((dull * (1 - blow) + bright * blow) * blow, 0.02, 0.05)


def _sustained(scene: Scene, gain: float, cents: float, tone: list[float], octave: int) -> Voice:
    """Chords held for a bar each; ``tone``: amplitude of each overtone."""
    size = min(loop_size(scene.samples), _CHORD_LOOP)
    bar = ((scene.control_times - scene.lead) / _bar_seconds(scene)).clip(0).astype(int)
    parts = []
    for place in range(min(4, int(bar.max()) + 1)):
        pitches = [scene.note(degree, octave) for degree in scene.chord(place)]
        pitches += [pitches[0] / 2, pitches[0] * 2]
        spectrum = [(k * p, a) for p in pitches for k, a in enumerate(tone, 1)]
        gate = smoothed((bar % 4 == place).astype(float), 0.25)
        parts.append((gain, shaped(looped(pad_loop(scene.rng, size, spectrum, cents)), gate)))
    return layered(*parts)


def strings(scene: Scene) -> Voice:
    """A string section: saw-like overtones, spread by many players' vibrato."""
    swell = wander(scene, 0.5, 0.75, 1.0)
    section = _sustained(scene, 0.14, 22, [1 / k**0.9 for k in range(1, 20)], 1)
    return shaped(section, swell)


def choir(scene: Scene) -> Voice:
    """Voices on an open vowel."""
    pitch = scene.note(0, 1)
    tone = [float(resonance(k * pitch, VOWEL_A)) + 0.05 / k for k in range(1, 16)]
    return shaped(_sustained(scene, 0.14, 30, tone, 1), wander(scene, 0.7, 0.7, 1.0))


def organ(scene: Scene) -> Voice:
    """Organ pipes: octaves and fifths, steady."""
    return _sustained(scene, 0.14, 2, [1, 0.8, 0.3, 0.6, 0.05, 0.25, 0.02, 0.4], 0)


def drone(scene: Scene) -> Voice:
    """An ambient pad: a fifth that never ends, opening and closing slowly."""
    size = loop_size(scene.samples)
    root = scene.note(0, -1)
    voicing = (root, 1.5 * root, 2 * root, 3 * root)
    dark = pad_loop(scene.rng, size, [(p * k, 1 / k**2) for p in voicing for k in range(1, 6)], 14)
    light = pad_loop(
        scene.rng, size, [(p * k, 1 / k) for p in voicing[2:] for k in range(2, 12)], 25
    )
    breath = wander(scene, 0.12, 0.0, 0.05)
    return layered((0.13, looped(dark)), (1.0, shaped(looped(light), breath)))
