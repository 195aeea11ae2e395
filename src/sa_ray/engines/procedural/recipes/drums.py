"""Drum kits on a sixteenth-note grid."""

import numpy as np

from sa_ray.engines.procedural.recipes.clips import burst, clock, finish, glide, mixed, partials
from sa_ray.engines.procedural.scene import F32, F64, Scene, Voice
from sa_ray.engines.procedural.voices import layered, played


def _kick(scene: Scene) -> F32:
    time = clock(0.4)
    drop = 48 + 110 * np.exp(-time / 0.028)
    body = finish(glide(drop * scene.pitch) * np.exp(-time / 0.12))
    return mixed((1.0, body), (0.12, burst(scene.rng, 0.02, 1000, 6000, 0.003)))


def _snare(scene: Scene) -> F32:
    skin = partials(0.2, np.array((185, 330)) * scene.pitch, (1, 0.6), 0.05)
    return mixed((0.7, skin), (1.0, burst(scene.rng, 0.25, 900, 9000, 0.06)))


def _clap(scene: Scene) -> F32:
    time = clock(0.3)
    flam = sum((np.exp(-((time - t) % 1.0) / 0.006) for t in (0, 0.011, 0.022)), 0 * time)
    noise = burst(scene.rng, 0.3, 800, 3500, 1e3)
    return finish(noise * (flam + np.exp(-time / 0.07)))


def _hat(scene: Scene, decay: float) -> F32:
    return burst(scene.rng, 5 * decay, 7000, 16_000, decay, 0.0003)


def _steps(scene: Scene, pattern: str, tempo: float) -> F64:
    """Return the seconds of every ``x`` of a one-bar pattern of sixteenths, repeated to the end."""
    grid = scene.every(15 / tempo)
    return np.compress([pattern[i % len(pattern)] == "x" for i in range(len(grid))], grid)


def drums(scene: Scene) -> Voice:
    """A rock beat."""
    return _kit(scene, scene.tempo(110), "x.......x.x.....", "x.x.x.x.x.x.x.x.", _snare(scene), 0.8)


def hip_hop(scene: Scene) -> Voice:
    """A slow, syncopated beat."""
    return _kit(scene, scene.tempo(88), "x..x...x..x.....", "x.xxx.x.x.x.x.xx", _snare(scene), 0.8)


def breakbeat(scene: Scene) -> Voice:
    """Drum and bass: fast and broken."""
    return _kit(scene, scene.tempo(172), "x.........x.....", "x.x.x.x.x.x.x.x.", _snare(scene), 0.8)


def _kit(scene: Scene, tempo: float, kick: str, hat: str, snare: F32, level: float) -> Voice:
    hats = _steps(scene, hat, tempo)
    soft = level * 0.4 * scene.rng.uniform(0.7, 1.0, len(hats))
    return layered(
        (0.9, played(_steps(scene, kick, tempo), [_kick(scene)])),
        (level, played(_steps(scene, "....x.......x...", tempo), [snare], 1, 0.1)),
        (1.0, played(hats, [_hat(scene, 0.03)], soft, -0.3)),
    )


def techno(scene: Scene) -> Voice:
    """Four on the floor: a kick on each beat, open hats between, a rolling bass."""
    tempo = scene.tempo(126)
    pulse = partials(
        60 / tempo, scene.note(0, -1) * np.arange(1, 9), 1 / np.arange(1, 9), 0.1, 0.004
    )
    return layered(
        (0.9, played(_steps(scene, "x...", tempo), [_kick(scene)])),
        (0.4, played(_steps(scene, "....x...", tempo), [_clap(scene)])),
        (0.22, played(_steps(scene, "..x.", tempo), [_hat(scene, 0.07)], 1, 0.2)),
        (0.35, played(_steps(scene, ".xxx", tempo), [pulse])),
    )
