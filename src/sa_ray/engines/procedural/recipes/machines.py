"""Vehicles, warnings and electricity."""

import numpy as np

from sa_ray.contracts import SAMPLE_RATE
from sa_ray.engines.procedural.loops import band_loop, loop_size, pad_loop
from sa_ray.engines.procedural.recipes.clips import (
    burst,
    clock,
    contour,
    finish,
    glide,
    mixed,
    partials,
)
from sa_ray.engines.procedural.scene import F32, F64, Scene, Voice
from sa_ray.engines.procedural.voices import (
    cycled,
    layered,
    looped,
    oscillator,
    played,
    shaped,
    smoothed,
    wander,
)

_SQUARE = (1, 0, 1 / 3, 0, 1 / 5, 0, 1 / 7)
_BRASS = tuple(1 / k**0.7 for k in range(1, 13))


def _band(scene: Scene, low: float, high: float, exponent: float = 0.3) -> Voice:
    return looped(band_loop(scene.rng, loop_size(scene.samples), low, high, exponent))


def _motor_cycle(scene: Scene) -> F32:
    """Two turns of a four-cylinder engine: a thud per cylinder, none quite like the other."""
    turn = np.arange(4096) / 4096
    cycle = np.zeros(4096)
    for firing in np.arange(4) / 4:
        since = (turn - firing) % 1.0
        ring = np.sin(2 * np.pi * 9 * since) + 0.6 * np.sin(2 * np.pi * 23 * since)
        cycle += scene.rng.uniform(0.7, 1.0) * ring * np.exp(-since * 12)
    motor: F32 = (cycle / np.abs(cycle).max()).astype(np.float32)
    return motor


def engine(scene: Scene) -> Voice:
    """An idling motor with its clatter."""
    speed = 11 * scene.pitch * scene.pace * wander(scene, 3.0, 0.97, 1.03)
    speed *= wander(scene, 0.25, 0.9, 1.25)
    clatter = shaped(_band(scene, 300, 2500), wander(scene, 12.0, 0.01, 0.035))
    return layered((0.4, cycled(speed, _motor_cycle(scene))), (1.0, clatter))


def car(scene: Scene) -> Voice:
    """Cars that pass by from left to right: tyres, motor and the Doppler shift."""
    period = 6.0 / scene.pace
    offset = (scene.control_times + 0.25 * period) % period - 0.5 * period
    near = 1 / (1 + (offset / 0.55) ** 2)
    side = np.tanh(offset / 0.8)
    doppler = 1 - 0.06 * np.tanh(offset / 0.5)
    motor = cycled(27 * scene.pitch * doppler, _motor_cycle(scene))
    tyres = _band(scene, 250, 2600, 0.4)
    both = layered((0.18, motor), (0.22, tyres))
    return shaped(both, near * (1 - 0.8 * side), near * (1 + 0.8 * side))


def train(scene: Scene) -> Voice:
    """Wheels over rail joints, two axles at a time, over a rolling rumble."""
    period = 0.72 / scene.pace
    joints = scene.every(period)
    front, rear = (_clack(scene, pitch) for pitch in (330, 290))
    rumble = shaped(_band(scene, 40, 180, 0.4), wander(scene, 2.0, 0.07, 0.1))
    rush = shaped(_band(scene, 500, 4000, 0.5), wander(scene, 1.0, 0.025, 0.04))
    return layered(
        (0.6, played(joints, [front])),
        (0.42, played(joints + 0.22 * period, [rear])),
        (1.0, rumble),
        (1.0, rush),
    )


def _clack(scene: Scene, pitch: float) -> F32:
    steel = partials(
        0.2, np.array((1.0, 2.3, 4.1, 6.6)) * pitch * scene.pitch, (1, 0.7, 0.5, 0.3), 0.03
    )
    return mixed((1.0, steel), (0.7, burst(scene.rng, 0.1, 200, 3000, 0.02)))


def _gate(scene: Scene, pattern: tuple[tuple[float, float], ...], period: float) -> F64:
    """Return a control curve that is 1 within the ``(begin, end)`` seconds of every period."""
    phase = (scene.control_times - scene.lead) % period
    open_ = sum((((phase >= a) & (phase < b)).astype(float) for a, b in pattern), 0 * phase)
    return smoothed(open_, 0.02)


def horn(scene: Scene) -> Voice:
    """A locomotive's air horn: a chord of brassy tones, long and short blasts."""
    chord = [
        (k * pitch * scene.pitch, gain)
        for pitch in (311.1, 370.0, 415.3, 493.9)  # D#4 F#4 G#4 B4, the five-chime K5LA less one
        for k, gain in enumerate(_BRASS, 1)
    ]
    blast = looped(pad_loop(scene.rng, loop_size(scene.samples), chord, cents=4))
    gate = _gate(scene, ((0.0, 1.5), (1.9, 2.4)), 3.6 / scene.pace)
    return layered((0.2, shaped(blast, smoothed(gate, 0.08))))


def siren(scene: Scene) -> Voice:
    """A wail that climbs and falls between 600 and 1400 Hz."""
    phase = (scene.control_times * scene.pace / 2.8) % 1.0
    climb = np.interp(phase, (0, 0.45, 1), (0, 1, 0))
    return layered((0.3, oscillator(650 * scene.pitch * 2.2**climb, (1, 0.35, 0.3, 0.12, 0.08))))


def alarm(scene: Scene) -> Voice:
    """Electronic beeps in fours."""
    pitch = np.full(len(scene.control_times), 1040 * scene.pitch)
    beeps = tuple((0.16 * k, 0.16 * k + 0.085) for k in range(4))
    gate = _gate(scene, beeps, 1.1 / scene.pace)
    return layered((0.3, shaped(oscillator(pitch, _SQUARE), smoothed(gate, 0.012))))


def telephone(scene: Scene) -> Voice:
    """A ringing telephone: 440 and 480 Hz (the North American ring), trilling bells above."""
    trill = 0.5 + 0.5 * np.sin(2 * np.pi * 20 * scene.control_times)
    gate = _gate(scene, ((0.0, 1.4),), 2.6 / scene.pace) * trill
    tones = ((440, 0.5), (480, 0.5), (1460, 1.0), (1810, 0.9), (3700, 0.4))
    bells = pad_loop(
        scene.rng, loop_size(scene.samples), [(f * scene.pitch, a) for f, a in tones], 2
    )
    return layered((0.25, shaped(looped(bells), gate)))


def helicopter(scene: Scene) -> Voice:
    """Blades that chop the air eleven times a second, under a turbine."""
    rotor = 11 * scene.pace * wander(scene, 0.3, 0.97, 1.03)
    turn = np.arange(2048) / 2048
    chop = cycled(rotor, np.exp(-turn * 7) * np.sin(2 * np.pi * 6 * turn))
    swish = np.exp(-((scene.control_times * 11 * scene.pace) % 1.0) * 4)
    air = shaped(_band(scene, 120, 1400, 0.5), 0.14 * swish)
    whine = oscillator(1900 * scene.pitch * wander(scene, 0.5, 0.99, 1.01), (1, 0.3))
    return layered((0.35, chop), (1.0, air), (0.012, whine))


def jet(scene: Scene) -> Voice:
    """An aeroplane overhead: a wide roar and a falling whine."""
    near = wander(scene, 0.15, 0.6, 1.0)
    fall = np.interp(scene.control_times, (0, max(scene.seconds, 0.1)), (1.15, 0.85))
    roar = shaped(_band(scene, 70, 1100, 0.35), 0.14 * near)
    hiss = shaped(_band(scene, 1500, 6000, 0.6), 0.05 * near)
    whine = oscillator(2400 * scene.pitch * fall, (1, 0.2, 0.1))
    return layered((1.0, roar), (1.0, hiss), (0.025, shaped(whine, near)))


def fan(scene: Scene) -> Voice:
    """A fan or a vacuum cleaner: steady air and the hum of its motor."""
    hum = pad_loop(
        scene.rng, loop_size(scene.samples),
        [(118 * scene.pitch * k, 1 / k) for k in (1, 2, 3, 5, 8)], 3,
    )  # fmt: skip
    return layered((0.06, looped(hum)), (0.09, _band(scene, 200, 3500, 0.6)))


def hum(scene: Scene) -> Voice:
    """Mains hum: 120 Hz, its overtones, and now and then a spark."""
    tones = [(60 * k * scene.pitch, 1 / k**0.8) for k in (1, 2, 3, 4, 6, 8, 10, 12, 14, 18)]
    tone = looped(pad_loop(scene.rng, loop_size(scene.samples), tones, 0.5))
    times = scene.scattered(1.5)
    sparks = [burst(scene.rng, 0.06, 2500, 12_000, 0.012) for _ in range(3)]
    return layered((0.15, tone), (0.12, played(times, sparks)))


def laser(scene: Scene) -> Voice:
    """Science-fiction shots: tones that dive from 3 kHz."""
    times = scene.every(0.6 / scene.pace, jitter=0.25)
    shots = [_zap(scene) for _ in range(4)]
    return played(times, shots, 0.7, scene.rng.uniform(-0.6, 0.6, len(times)))


def _zap(scene: Scene) -> F32:
    time = clock(0.38)
    top = scene.rng.uniform(2600, 3600) * scene.pitch
    dive = 140 + top * np.exp(-time / scene.rng.uniform(0.06, 0.1))
    return finish(glide(dive, (1, 0.4, 0.3)) * np.exp(-time / 0.15))


def computer(scene: Scene) -> Voice:
    """A thinking machine: random beeps on a grid."""
    times = scene.every(0.13 / scene.pace)
    beeps = [
        finish(glide(np.full(round(0.07 * SAMPLE_RATE), hertz * scene.pitch), _SQUARE[:3]), 0.003)
        for hertz in 500 * 2 ** (scene.rng.integers(0, 30, 12) / 12)
    ]
    spoken = scene.rng.random(len(times)) < 0.75
    spoken[:1] = True
    return played(times, beeps, 0.45 * spoken, scene.rng.uniform(-0.4, 0.4, len(times)))


def typing(scene: Scene) -> Voice:
    """Keys pressed and let go, in an uneven rhythm."""
    times = scene.every(0.14 / scene.pace, jitter=0.7)
    rng = scene.rng
    keys = [
        mixed((1.0, burst(rng, 0.03, 1800, 7000, 0.004, 0.0003)),
              (0.6, partials(0.05, rng.uniform(220, 420), 1, 0.012)))
        for _ in range(6)
    ]  # fmt: skip
    gains = rng.uniform(0.4, 0.9, len(times))
    return layered((1.0, played(times, keys, gains)), (0.25, played(times + 0.07, keys, gains)))


def whoosh(scene: Scene) -> Voice:
    """Something flies past: noise whose band climbs and falls again."""
    times = scene.shots(1.8)
    return played(
        times, [_swish(scene) for _ in range(3)], 0.8, scene.rng.uniform(-0.5, 0.5, len(times))
    )


def _swish(scene: Scene) -> F32:
    length = scene.rng.uniform(0.7, 1.0)
    position = contour(length, [(0, 0), (0.55, 1), (1, 0.1)])
    total = np.zeros(len(position))
    for step, centre in enumerate(250 * scene.pitch * 2.0 ** np.arange(5)):
        weight = np.exp(-(((position * 4 - step) / 0.7) ** 2))
        total += weight * burst(scene.rng, length, 0.7 * centre, 1.4 * centre, 1e3)
    swell = np.sin(np.pi * clock(length) / length) ** 2
    return finish(total * swell[: len(total)])
