"""Struck, dropped and broken things."""

import numpy as np

from sa_ray.contracts import SAMPLE_RATE
from sa_ray.engines.procedural.recipes.clips import burst, clock, finish, glide, mixed, partials
from sa_ray.engines.procedural.scene import F32, Scene, Voice
from sa_ray.engines.procedural.voices import layered, played

_CHURCH_BELL = (0.5, 1.0, 1.183, 1.506, 2.0, 2.514, 2.662, 3.011, 4.166)
"""Partials over the prime of a minor-third bell: hum, prime, tierce, quint, nominal, ...
(Rossing, Science of Percussion Instruments, 2000)."""

_FREE_BAR = (1.0, 2.756, 5.404, 8.933, 13.34)
"""Transverse modes of a bar free at both ends (Euler-Bernoulli beam)."""


def _cut(scene: Scene, seconds: float) -> float:
    """Shorten a long ring to what the clip holds, so that no more is rendered."""
    return min(seconds, max(scene.seconds, 0.1))


def bell(scene: Scene) -> Voice:
    """A church bell, tolling slowly; short clips hold one stroke."""
    pitch = 440 * scene.pitch * scene.identity.uniform(0.75, 1.2)
    freqs = np.array(_CHURCH_BELL) * pitch
    amps = np.array((0.5, 0.6, 0.8, 0.35, 1.0, 0.4, 0.4, 0.5, 0.3)) * scene.rng.uniform(0.8, 1.2, 9)
    decays = 1.6 / np.sqrt(np.array(_CHURCH_BELL))
    seconds = _cut(scene, 7.0)
    # Two close modes for each partial: the warble of a casting that is not quite round.
    sides = [
        partials(
            seconds, np.append(freqs, freqs + beat), np.append(amps, 0.4 * amps), np.tile(decays, 2)
        )
        for beat in (0.7, 1.1)
    ]
    times = scene.shots(8.0)
    return layered(
        (0.8, played(times, sides[:1], 1, -0.5)), (0.8, played(times, sides[1:], 1, 0.5))
    )


def chime(scene: Scene) -> Voice:
    """Wind chimes: thin tubes struck at random, pentatonic."""
    rng = scene.rng
    pitches = 880 * scene.pitch * 2 ** (np.array((0, 2, 4, 7, 9, 12)) / 12)
    tubes = [
        partials(_cut(scene, 2.2), np.array(_FREE_BAR) * p, (1, 0.5, 0.25, 0.1, 0.05),
                 0.9 / np.array(_FREE_BAR) ** 0.7)
        for p in pitches
    ]  # fmt: skip
    times = scene.scattered(2.6)
    clips = [tubes[i] for i in rng.integers(len(tubes), size=64)]
    return played(
        times, clips, rng.uniform(0.2, 0.6, len(times)), rng.uniform(-0.7, 0.7, len(times))
    )


def gong(scene: Scene) -> Voice:
    """A gong or a crash cymbal: a dense, slow shimmer."""
    rng = scene.rng
    seconds = _cut(scene, 6.0)
    freqs = np.sort(rng.uniform(70, 2600, 60)) * scene.pitch
    body = partials(seconds, freqs, (200 / freqs) ** 0.4, 2.2 * (150 / freqs) ** 0.4, 0.01)
    shimmer = burst(rng, seconds, 1500, 6000, 0.9, attack=0.15)
    times = scene.shots(7.0)
    return played(times, [mixed((1.0, body), (0.3, shimmer))], 0.9)


def clock_tick(scene: Scene) -> Voice:
    """Tick, tock: two small clicks in turn, every half second."""
    times = scene.every(0.5 / scene.pace)
    clicks = [_tick(scene, 2700 * scene.pitch), _tick(scene, 2050 * scene.pitch)]
    return played(times, clicks, 0.7)


def _tick(scene: Scene, pitch: float) -> F32:
    wood = partials(0.06, (pitch, 1.9 * pitch, 0.31 * pitch), (1, 0.5, 0.5), (0.006, 0.004, 0.012))
    return mixed((1.0, wood), (0.4, burst(scene.rng, 0.02, 2000, 9000, 0.002, 0.0003)))


def metronome(scene: Scene) -> Voice:
    """A click on every beat, higher on the first of four."""
    times = scene.every(60 / scene.tempo(100))
    high, low = (partials(0.08, (p, 2.7 * p), (1, 0.3), 0.012) for p in (1760, 1320))
    return played(times, [high, low, low, low], 0.7)


def footsteps(scene: Scene) -> Voice:
    """Heel, then sole, left and right in turn."""
    times = scene.every(0.56 / scene.pace, jitter=0.06)
    steps = [_step(scene) for _ in range(6)]
    return played(
        times, steps, scene.rng.uniform(0.7, 0.95, len(times)), np.resize((-0.25, 0.25), len(times))
    )


def _step(scene: Scene) -> F32:
    rng = scene.rng
    heel = partials(0.16, np.array((95, 170, 290)) * scene.pitch, (1, 0.7, 0.4), 0.03, 0.002)
    scuff = burst(rng, 0.12, 700, 4500, 0.03, attack=0.01)
    late = np.zeros(round(rng.uniform(0.04, 0.06) * SAMPLE_RATE), np.float32)
    knock = burst(rng, 0.05, 300, 2200, 0.008)
    return mixed((1.0, heel), (0.4, knock), (0.28, np.append(late, scuff)))


def metal(scene: Scene) -> Voice:
    """A metallic hit: a plate that rings inharmonically."""
    times = scene.shots(2.2)
    return played(
        times, [_clang(scene) for _ in range(3)], 0.85, scene.rng.uniform(-0.3, 0.3, len(times))
    )


def _clang(scene: Scene) -> F32:
    rng = scene.rng
    freqs = 310 * scene.pitch * np.cumsum(rng.uniform(0.6, 1.4, 24))
    ring = partials(_cut(scene, 1.8), freqs, rng.uniform(0.3, 1, 24), 0.5 * (600 / freqs) ** 0.5)
    return mixed((1.0, ring), (0.6, burst(rng, 0.05, 800, 9000, 0.008, 0.0003)))


def thud(scene: Scene) -> Voice:
    """A heavy, dull impact."""
    times = scene.shots(1.6)
    return played(times, [_blow(scene) for _ in range(3)], 0.9)


def _blow(scene: Scene) -> F32:
    time = clock(0.5)
    drop = (48 + 90 * np.exp(-time / 0.03)) * scene.pitch
    body = finish(glide(drop, (1, 0.3)) * np.exp(-time / 0.09), 0.002)
    return mixed((1.0, body), (0.6, burst(scene.rng, 0.15, 150, 1800, 0.02)))


def explosion(scene: Scene) -> Voice:
    """A blast, its low wave and debris that settles."""
    times = scene.shots(5.0)
    return played(times, [_blast(scene) for _ in times[:3]], 0.95)


def _blast(scene: Scene) -> F32:
    rng = scene.rng
    seconds = _cut(scene, 3.5)
    time = clock(seconds)
    sub = finish(glide((28 + 50 * np.exp(-time / 0.2)) * scene.pitch) * np.exp(-time / 0.7), 0.003)
    fireball = burst(rng, seconds, 50, 450, 0.75, attack=0.004)
    blast = burst(rng, min(seconds, 0.8), 200, 9000, 0.13, attack=0.001)
    debris = burst(rng, seconds, 800, 5000, 0.9, attack=0.3)
    return mixed((0.8, sub), (1.0, fireball), (0.9, blast), (0.07, debris))


def gunshot(scene: Scene) -> Voice:
    """A sharp report and its echo."""
    times = scene.shots(1.3)
    crack = mixed((1.0, burst(scene.rng, 0.2, 300, 12_000, 0.02, 0.0003)),
                  (0.8, burst(scene.rng, 0.3, 80, 600, 0.05)))  # fmt: skip
    echo = burst(scene.rng, 0.9, 200, 1500, 0.25, attack=0.03)
    return layered((0.9, played(times, [crack])), (0.16, played(times + 0.16, [echo])))


def glass(scene: Scene) -> Voice:
    """A pane breaks, and its shards tinkle to the floor."""
    times = scene.shots(2.4)
    return played(times, [_shatter(scene) for _ in range(2)], 0.85)


def _shatter(scene: Scene) -> F32:
    rng = scene.rng
    total = np.zeros(round(1.3 * SAMPLE_RATE), np.float32)
    crash = burst(rng, 0.4, 2500, 14_000, 0.06, 0.0003)
    total[: len(crash)] += crash
    for late in rng.exponential(0.22, 40):
        pitch = rng.uniform(2800, 8500) * scene.pitch
        shard = partials(0.15, (pitch, 1.53 * pitch), (1, 0.4), rng.uniform(0.01, 0.04), 0.0003)
        start = min(round((0.01 + late) * SAMPLE_RATE), len(total) - len(shard))
        total[start : start + len(shard)] += rng.uniform(0.05, 0.35) * shard
    return finish(total)


def knock(scene: Scene) -> Voice:
    """Knuckles on a wooden door, four at a time."""
    groups = scene.every(2.3 / scene.pace)
    times = (groups[:, None] + np.arange(4) * 0.21).ravel()
    return played(times, [_rap(scene) for _ in range(5)], scene.rng.uniform(0.7, 0.9, len(times)))


def _rap(scene: Scene) -> F32:
    pitch = 175 * scene.pitch * scene.rng.uniform(0.96, 1.04)
    wood = partials(
        0.16, np.array((1, 2.3, 3.9, 6.1)) * pitch, (1, 0.8, 0.5, 0.3), (0.035, 0.025, 0.015, 0.01)
    )
    return mixed((1.0, wood), (0.3, burst(scene.rng, 0.03, 500, 3000, 0.005, 0.0005)))


def creak(scene: Scene) -> Voice:
    """A door on a dry hinge: it sticks and slips, faster and slower."""
    times = scene.shots(2.5)
    return played(times, [_hinge(scene) for _ in range(2)], 0.7)


def _hinge(scene: Scene) -> F32:
    rng = scene.rng
    slips = np.cumsum(
        1 / np.interp(np.arange(160), (0, 70, 159), (45, 140, 60)) * rng.uniform(0.8, 1.2, 160)
    )
    total = np.zeros(round((slips[-1] + 0.1) * SAMPLE_RATE), np.float32)
    modes = np.array((620, 1130, 1840, 2750)) * scene.pitch
    slip = partials(0.04, modes, (1, 0.8, 0.6, 0.4), 0.006, 0.0003)
    for at in slips:
        start = round(at * SAMPLE_RATE)
        total[start : start + len(slip)] += rng.uniform(0.5, 1) * slip
    return finish(total, 0.1, 0.2)
