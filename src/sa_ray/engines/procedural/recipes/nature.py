"""Weather, water and fire."""

import numpy as np

from sa_ray.engines.procedural.loops import band_loop, grain_loop, loop_size
from sa_ray.engines.procedural.recipes.clips import (
    burst,
    clock,
    contour,
    finish,
    glide,
    mixed,
    partials,
)
from sa_ray.engines.procedural.scene import F32, Scene, Voice
from sa_ray.engines.procedural.voices import layered, looped, played, shaped, wander


def _noise(scene: Scene, low: float, high: float, exponent: float = 0.0) -> Voice:
    size = loop_size(scene.samples)
    return looped(band_loop(scene.rng, size, low, high, exponent))


def rain(scene: Scene) -> Voice:
    """A bright, even hiss with drops that can be told apart."""
    rng = scene.rng
    pitches = rng.uniform(1800, 7000, 8) * scene.pitch
    drops = np.stack([partials(0.006, (p, 1.7 * p), (1, 0.5), 0.0015, 0.0002) for p in pitches])
    shower = grain_loop(rng, loop_size(scene.samples), 180 * scene.intensity, drops)
    hiss = shaped(_noise(scene, 500, 13_000, 0.15), wander(scene, 0.4, 0.085, 0.115))
    return layered((scene.intensity**0.5, hiss), (0.12, looped(shower)))


def thunder(scene: Scene) -> Voice:
    """A crack, then a rumble that rolls in several waves."""
    times = scene.shots(9.0)
    return played(times, [_thunderclap(scene) for _ in times[:4]], pans=_pans(scene, times, 0.4))


def _thunderclap(scene: Scene) -> F32:
    rng = scene.rng
    length = min(6.0, max(scene.seconds, 0.5))
    time = clock(length)
    rolls = sum(
        (
            rng.uniform(0.3, 1) * np.exp(-(((time - at) / rng.uniform(0.2, 0.6)) ** 2))
            for at in rng.uniform(0, 3.5, 5)
        ),
        np.exp(-time / 1.5),
    )
    rumble = burst(rng, length, 30, 170 * scene.pitch, 2.5, attack=0.03)
    crack = burst(rng, min(length, 0.9), 120, 2200 * scene.pitch, 0.12, attack=0.004)
    return mixed((1.0, finish(rumble * rolls)), (0.6, crack))


def wind(scene: Scene) -> Voice:
    """A low roar and a whistle above it that rise and fall with the gusts."""
    gust = wander(scene, 0.55 * scene.pace, 0.15, 1.0) * wander(scene, 1.7, 0.7, 1.0)
    roar = shaped(_noise(scene, 90, 330 * scene.pitch, 0.5), 0.26 * gust)
    pitch = 620 * scene.pitch
    whistle = shaped(_noise(scene, pitch * 0.85, pitch * 1.15), 0.08 * gust**2 * scene.intensity)
    return layered((1.0, roar), (1.0, whistle))


def ocean(scene: Scene) -> Voice:
    """Waves that swell, break in foam and draw back, over a distant rumble."""
    period = 7.0 / scene.pace
    phase = (scene.control_times / period + 0.15) % 1.0
    swell = np.interp(phase, (0, 0.35, 0.5, 0.7, 1), (0.1, 0.6, 1, 0.45, 0.1))
    foam = np.interp(phase, (0, 0.38, 0.5, 0.8, 1), (0.04, 0.15, 1, 0.2, 0.04))
    body = shaped(_noise(scene, 60, 500, 0.6), 0.14 * swell * wander(scene, 0.5, 0.8, 1))
    spray = shaped(_noise(scene, 700, 7000, 0.5), 0.16 * foam * wander(scene, 3.0, 0.8, 1))
    return layered((scene.intensity**0.5, body), (1.0, spray))


def river(scene: Scene) -> Voice:
    """A soft rush full of bubbles."""
    size = loop_size(scene.samples)
    gurgle = grain_loop(scene.rng, size, 45 * scene.pace, _bubbles(scene, 0.05, 350, 1500))
    rush = shaped(_noise(scene, 350, 1800, 0.3), wander(scene, 1.0, 0.04, 0.07))
    return layered((1.0, rush), (0.3, looped(gurgle)))


def _bubbles(scene: Scene, seconds: float, low: float, high: float) -> F32:
    """Rising, dying sines: a bubble rings at 3.26 m/s over its radius (Minnaert, 1933)."""
    pitches = np.exp(scene.rng.uniform(np.log(low), np.log(high), 10)) * scene.pitch
    fall = np.exp(-clock(seconds) / (seconds / 4))
    rise = contour(seconds, [(0, 1.0), (1, 1.35)])
    return np.stack([finish(glide(pitch * rise) * fall, 0.002) for pitch in pitches])


def drip(scene: Scene) -> Voice:
    """Single drops into still water, with the echo of a cave."""
    times = scene.every(0.85 / scene.pace, jitter=0.3)
    plinks = list(_bubbles(scene, 0.14, 700, 1700))
    pans = _pans(scene, times, 0.5)
    parts = [
        (gain, played(times + late, plinks, pans=pans * side))
        for late, gain, side in ((0, 0.9, 1), (0.13, 0.25, -1), (0.29, 0.12, 1))
    ]
    return layered(*parts)


def bubbles(scene: Scene) -> Voice:
    """A pot or a diver: bubbles in quick clusters."""
    size = loop_size(scene.samples)
    stream = looped(grain_loop(scene.rng, size, 28 * scene.pace, _bubbles(scene, 0.09, 180, 700)))
    return layered((0.5, shaped(stream, wander(scene, 2.0, 0.1, 1.0))))


def fire(scene: Scene) -> Voice:
    """A low flutter, and crackles of every size."""
    rng = scene.rng
    snaps = [burst(rng, 0.025, 900, 9000, decay, 0.0003) for decay in (0.001, 0.002, 0.004, 0.006)]
    snaps += [burst(rng, 0.05, 300, 3000, 0.012, 0.0005)]
    times = scene.scattered(16 * scene.intensity)
    gains = np.minimum(0.12 * rng.pareto(1.6, len(times)) + 0.04, 0.8)
    crackle = played(times, snaps, gains, _pans(scene, times, 0.7))
    flutter = shaped(_noise(scene, 60, 260, 0.5), wander(scene, 9.0, 0.02, 0.09))
    hiss = shaped(_noise(scene, 1500, 6000, 0.5), wander(scene, 2.0, 0.005, 0.015))
    return layered((1.0, crackle), (1.0, flutter), (1.0, hiss))


def white_noise(scene: Scene) -> Voice:
    """Noise of equal power at every frequency."""
    return layered((0.12, _noise(scene, 20, 20_000)))


def brown_noise(scene: Scene) -> Voice:
    """Noise that falls by 6 dB per octave."""
    return layered((0.12, _noise(scene, 40, 20_000, 1.0)))


def _pans(scene: Scene, times: np.ndarray, width: float) -> np.ndarray:
    return scene.rng.uniform(-width, width, len(times))
