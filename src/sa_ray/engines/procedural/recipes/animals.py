"""Animals and people: throats, wings and hands."""

import numpy as np

from sa_ray.engines.procedural.loops import (
    band_loop,
    bin_frequencies,
    grain_loop,
    loop_size,
    noise_loop,
    pad_loop,
)
from sa_ray.engines.procedural.recipes.clips import (
    VOWEL_A,
    burst,
    clock,
    contour,
    finish,
    glide,
    mixed,
    resonance,
    voiced,
)
from sa_ray.engines.procedural.scene import F32, F64, Scene, Voice
from sa_ray.engines.procedural.voices import cycled, layered, looped, played, shaped, wander


def birds(scene: Scene) -> Voice:
    """Songbirds, each with a phrase of its own, answering from all sides."""
    parts: list[tuple[float, Voice]] = []
    for pan in (-0.7, 0.1, 0.6):
        times = scene.every(scene.rng.uniform(1.2, 1.9) / scene.pace, jitter=0.4)
        late = 0 if not parts else scene.rng.uniform(0.2, 0.8)
        parts.append((0.4, played(times + late, [_birdsong(scene)], pans=pan)))
    return layered(*parts)


def _birdsong(scene: Scene) -> F32:
    rng = scene.rng
    base = rng.uniform(2400, 4200) * scene.pitch
    notes = int(rng.integers(3, 7))
    length = rng.uniform(0.06, 0.13)
    sweep = rng.uniform(0.75, 1.45, 3)
    points = list(zip((0, 0.4, 1), base * sweep, strict=True))
    swell = np.sin(np.pi * clock(length) / length)
    note = glide(contour(length, points), (1, 0.12)) * swell
    gap = np.zeros(round(0.35 * len(note)))
    return finish(np.concatenate([part for _ in range(notes) for part in (note, gap)]))


def crickets(scene: Scene) -> Voice:
    """Field crickets: bursts of four pulses at 4 to 5 kHz, by several singers."""
    parts: list[tuple[float, Voice]] = []
    for pan in (-0.8, -0.1, 0.7):
        hertz = scene.rng.uniform(4000, 4900) * scene.pitch
        pulse = glide(np.full(len(clock(0.018)), hertz)) * np.hanning(len(clock(0.018)))
        chirp = np.tile(np.append(pulse, np.zeros(len(clock(0.014)))), 4)
        times = scene.every(scene.rng.uniform(0.38, 0.46) / scene.pace)
        late = 0 if not parts else scene.rng.uniform(0, 0.4)
        parts.append((0.35, played(times + late, [finish(chirp)], pans=pan)))
    return layered(*parts)


def dog(scene: Scene) -> Voice:
    """Barks in pairs: a hoarse cry whose pitch jumps up and falls."""
    pairs = scene.every(1.7 / scene.pace, jitter=0.15)
    times = np.concatenate([pairs, pairs + 0.34])
    return played(times, [_bark(scene) for _ in range(4)], 0.8)


def _bark(scene: Scene) -> F32:
    length = 0.24
    top = scene.rng.uniform(480, 560) * scene.pitch
    pitch = contour(length, [(0, 0.55 * top), (0.25, top), (1, 0.5 * top)])
    throat = ((650, 180, 1.0), (1500, 260, 0.8), (2700, 400, 0.3))
    level = contour(length, [(0, 0), (0.1, 1), (0.5, 0.6), (1, 0)])
    hoarse = burst(scene.rng, length, 500, 3500, 0.09)
    return mixed((1.0, finish(voiced(pitch, throat) * level)), (0.35, hoarse))


def cat(scene: Scene) -> Voice:
    """A meow, long and gliding."""
    times = scene.shots(2.6)
    return played(times, [_meow(scene) for _ in range(3)], 0.7)


def _meow(scene: Scene) -> F32:
    length = scene.rng.uniform(0.7, 1.0)
    top = scene.rng.uniform(620, 760) * scene.pitch
    pitch = contour(length, [(0, 0.75 * top), (0.35, top), (1, 0.6 * top)])
    closed = voiced(pitch, ((900, 150, 1.0), (2600, 300, 0.5)))
    opened = voiced(pitch, ((1500, 250, 1.0), (3400, 400, 0.6)))
    mouth = contour(length, [(0, 0), (0.4, 1), (1, 0.1)])
    level = contour(length, [(0, 0), (0.15, 0.8), (0.5, 1), (1, 0)])
    return finish((closed * (1 - mouth) + opened * mouth) * level)


def owl(scene: Scene) -> Voice:
    """Hoots: hollow, low, in a rhythm of short and long."""
    calls = scene.every(3.4 / scene.pace, jitter=0.15)
    rhythm = ((0.0, 0.4), (0.55, 0.2), (0.85, 0.3), (1.3, 0.5))
    return layered(
        *((0.4, played(calls + late, [_hoot(scene, seconds)])) for late, seconds in rhythm)
    )


def _hoot(scene: Scene, seconds: float) -> F32:
    pitch = contour(seconds, [(0, 330), (0.3, 370), (1, 340)]) * scene.pitch
    level = np.sin(np.pi * clock(seconds) / seconds) ** 0.7
    breath = burst(scene.rng, seconds, 250, 700, 0.2, attack=0.05)
    return mixed((1.0, finish(glide(pitch, (1, 0.15, 0.05)) * level)), (0.1, breath))


def bees(scene: Scene) -> Voice:
    """Wings at about 200 Hz: buzzes that come and go."""
    saw = np.linspace(1, -1, 2048) * np.hanning(2048) ** 0.3
    parts = []
    for pan in (-0.8, 0.0, 0.7):
        pitch = scene.rng.uniform(190, 240) * scene.pitch * wander(scene, 2.5, 0.92, 1.08)
        near = wander(scene, 0.8, 0.04, 0.16)
        parts.append((1.0, shaped(cycled(pitch, saw), near * (1 - pan), near * (1 + pan))))
    return layered(*parts)


def _syllables(scene: Scene) -> F64:
    """Loudness of speech: about four syllables a second (Greenberg, 1999), and pauses."""
    return np.maximum(wander(scene, 8.0, -0.3, 1.0), 0) * wander(scene, 0.7, 0.2, 1.0)


def crowd(scene: Scene) -> Voice:
    """Babble: many voices talking at once, none to be understood."""
    rng = scene.rng
    size = loop_size(scene.samples)
    frequencies = bin_frequencies(size)
    parts = []
    for pan in (-0.8, -0.5, -0.2, 0.2, 0.5, 0.8):
        shift = rng.uniform(0.8, 1.25)
        throat = tuple((at * shift, width, gain) for at, width, gain in VOWEL_A)
        pitch = rng.uniform(95, 230) * scene.pitch
        tone = [(k * pitch, float(resonance(k * pitch, throat)) / k**0.4) for k in range(1, 24)]
        level = _syllables(scene)
        speaker = shaped(
            looped(pad_loop(rng, size, tone, cents=60)), level * (1 - pan), level * (1 + pan)
        )
        parts.append((0.07, speaker))
    murmur = noise_loop(rng, size, resonance(frequencies, VOWEL_A) / frequencies**0.3)
    return layered((0.08, looped(murmur)), *parts)


def applause(scene: Scene) -> Voice:
    """Hundreds of hand claps."""
    rng = scene.rng
    centres = rng.uniform(800, 2200, 12) * scene.pitch
    claps = np.stack([burst(rng, 0.03, 0.7 * c, 1.6 * c, 0.006, 0.0005) for c in centres])
    hands = looped(grain_loop(rng, loop_size(scene.samples), 140 * scene.intensity, claps))
    wash = looped(band_loop(rng, loop_size(scene.samples), 700, 5000, 0.5))
    level = wander(scene, 0.8, 0.75, 1.0)
    return layered((0.35, shaped(hands, level)), (0.03, shaped(wash, level)))


def heartbeat(scene: Scene) -> Voice:
    """Lub-dub: two dull thumps, the second a third of the way on."""
    period = 60 / scene.tempo(72)
    beats = scene.every(period)
    lub = _thump(52 * scene.pitch, 0.07)
    dub = _thump(66 * scene.pitch, 0.05)
    return layered((0.9, played(beats, [lub])), (0.6, played(beats + 0.33 * period, [dub])))


def _thump(pitch: float, decay: float) -> F32:
    time = clock(0.3)
    return finish(
        glide(pitch * (1 + np.exp(-time / 0.02)), (1, 0.5, 0.25, 0.1)) * np.exp(-time / decay),
        0.006,
    )
