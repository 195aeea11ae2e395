"""Texture for a prompt without a known word; each prompt has its own."""

import numpy as np

from sa_ray.engines.procedural.loops import band_loop, loop_size, pad_loop
from sa_ray.engines.procedural.scene import Scene, Voice
from sa_ray.engines.procedural.voices import layered, looped, shaped, wander


def texture(scene: Scene) -> Voice:
    """A tone and a band of noise whose pitch, colour and motion follow from the words alone."""
    words = scene.identity
    base = 70 * 2 ** words.uniform(0, 3.5) * scene.pitch
    ratios = np.cumsum(np.append(1.0, words.uniform(0.4, 1.6, 7)))
    fall = words.uniform(0.6, 2.0)
    tone = [(base * r, r**-fall) for r in ratios]
    centre = 150 * 2 ** words.uniform(0, 5.5)
    balance = words.uniform(0.15, 0.85)
    rates = words.uniform(0.3, 7.0, 2) * scene.pace
    depths = words.uniform(0.1, 0.95, 2)
    size = loop_size(scene.samples)
    hum = looped(pad_loop(scene.rng, size, tone, float(words.uniform(2, 40))))
    air = looped(band_loop(scene.rng, size, 0.7 * centre, 1.5 * centre))
    return layered(
        (0.15 * balance, shaped(hum, wander(scene, rates[0], 1 - depths[0], 1.0))),
        (0.15 * (1 - balance), shaped(air, wander(scene, rates[1], 1 - depths[1], 1.0))),
    )
