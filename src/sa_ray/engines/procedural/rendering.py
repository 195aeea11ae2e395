"""Render one request: compose its layers, advance by steps, master the clip."""

from collections.abc import Hashable, Sequence
from hashlib import sha256

import numpy as np

from sa_ray.contracts import SAMPLE_RATE, Region, ResolvedRequest, VariantName
from sa_ray.engines.procedural.loops import noise_loop
from sa_ray.engines.procedural.prompt import Plan, read
from sa_ray.engines.procedural.recipes.unknown import texture
from sa_ray.engines.procedural.scene import F32, Scene, Voice
from sa_ray.engines.procedural.vocabulary import SOUNDS
from sa_ray.engines.procedural.voices import layered, looped, muffled, roomy

_BLOCK = 2**16
_MIDDLE_C = 261.63
_LOUDNESS = 0.15
_HUSHED = 0.003
_PEAK = 0.95
_KNEE = 0.7
_OVERSHOOT = 1.6
_WINDOW = SAMPLE_RATE // 10


class Rendering:
    """One clip in progress; each step renders the next ``1 / steps`` of its time.

    As in diffusion, more steps leave less residual noise over the same clip: the generators are
    keyed by everything but the step count.
    """

    def __init__(
        self, request: ResolvedRequest, variant: VariantName, source: F32 | None = None
    ) -> None:
        """Allocate the clip. Raises ``MemoryError`` if it does not fit."""
        self._source = source
        self._request = request
        self._variant = variant
        self._samples = np.zeros((2, round(request.duration * SAMPLE_RATE)), np.float32)
        self._steps_done = 0
        self._voice: Voice | None = None

    def step(self) -> float:
        """Do the next step; return the fraction done, 1.0 after the last."""
        if self._voice is None:
            self._voice = _compose(self._request, self._variant, self._samples.shape[1])
        total, count = self._samples.shape[1], self._request.steps
        begin = total * self._steps_done // count
        self._steps_done += 1
        end = total * self._steps_done // count
        for start in range(begin, end, _BLOCK):
            stop = min(start + _BLOCK, end)
            self._samples[:, start:stop] = self._voice(start, stop)
        return self._steps_done / count

    def finished(self) -> F32:
        """Return the mastered clip ``[2, samples]``; call once, after the last step."""
        if self._source is None:
            _master(self._samples)
        elif self._request.regions:
            _join(self._samples, self._source, self._request.regions)
        else:
            _master(self._samples)
            _mix(self._samples, self._source, self._request.init_noise_level)
        return self._samples


def _generator(*key: Hashable) -> np.random.Generator:
    digest = sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))


def _compose(request: ResolvedRequest, variant: VariantName, samples: int) -> Voice:
    plan = read(request.prompt, request.negative_prompt)
    chance = (variant, request.prompt, request.negative_prompt, request.duration, request.seed)
    parts = []
    for name in plan.sounds:
        sound = SOUNDS[name]
        parts.append((sound.gain, sound.recipe(_scene(plan, request, samples, name, chance))))
    if not parts:
        parts.append((1.0, texture(_scene(plan, request, samples, "unknown", chance))))
    voice = layered(*parts)
    if plan.muffled:
        voice = muffled(voice, 900.0)
    if variant == "medium":
        voice = roomy(voice)
    residual = noise_loop(_generator("residual", *chance), _BLOCK, np.ones(_BLOCK // 2 + 1))
    return layered((1.0, voice), (0.02 / request.steps**1.5, looped(residual)))


def _scene(
    plan: Plan, request: ResolvedRequest, samples: int, layer: str, chance: tuple[Hashable, ...]
) -> Scene:
    shared = _generator("key", *chance)
    tonic = int(shared.integers(12)) if plan.key is None else plan.key.tonic
    minor = bool(shared.random() < 0.5) if plan.key is None else plan.key.minor
    return Scene(
        samples=samples,
        rng=_generator(layer, *chance),
        identity=_generator("identity", layer, request.prompt),
        bpm=plan.bpm,
        root=_MIDDLE_C / 2 * 2 ** ((tonic if tonic < 7 else tonic - 12) / 12),
        minor=minor,
        pace=plan.pace,
        pitch=plan.pitch,
        intensity=plan.intensity,
    )


def _mix(samples: F32, source: F32, level: float | None) -> None:
    """Mix ``source`` into ``samples`` at equal power, in place; None: there is nothing of it."""
    angle = (1.0 if level is None else level) * np.pi / 2
    # Not by the cosine, which leaves a trace of the source at level 1.
    samples *= np.float32(np.sin(angle))
    samples += np.float32(np.sin(np.pi / 2 - angle)) * source
    if max(samples.max(), -samples.min()) > 1:
        _limit(samples)


def _join(samples: F32, source: F32, regions: Sequence[Region]) -> None:
    """Bring ``samples`` to the loudness of ``source``, and put it outside ``regions``, in place.

    The scene goes on through the joins, since it is that of the whole clip.
    """
    kept = np.ones(samples.shape[1], bool)
    for region in regions:
        kept[round(region.start * SAMPLE_RATE) : round(region.end * SAMPLE_RATE)] = False
    around = _loudness(source[:, kept])
    _master(samples, around if around >= _HUSHED else _LOUDNESS)
    samples[:, kept] = source[:, kept]


def _loudness(samples: F32) -> float:
    """RMS of the windows within 20 dB of the loudest, so that pauses do not count."""
    total = samples.shape[1]
    if not total:
        return 0.0
    window = min(_WINDOW, total)
    windows = samples[:, : total // window * window].reshape(2, -1, window)
    power = np.einsum("cws,cws->w", windows, windows) / (2 * window)
    return float(np.sqrt(power[power >= 0.01 * power.max()].mean()))


def _master(samples: F32, loudness: float = _LOUDNESS) -> None:
    """Bring to an even loudness below full scale, and fade both ends, in place."""
    total = samples.shape[1]
    if not total:
        return
    peak = float(max(samples.max(), -samples.min()))
    found = max(_loudness(samples), 1e-9)
    gain = min(loudness / found, _OVERSHOOT * _PEAK / max(peak, 1e-9))
    for start in range(0, total, _BLOCK):
        block = samples[:, start : start + _BLOCK]
        block *= np.float32(gain)
        _limit(block)
    for seconds, part in ((0.002, samples), (0.02, samples[:, ::-1])):
        ramp = min(max(1, round(seconds * SAMPLE_RATE)), max(1, total // 4))
        part[:, :ramp] *= np.linspace(0, 1, ramp, endpoint=False, dtype=np.float32)


def _limit(block: F32) -> None:
    """Compress samples above the knee smoothly towards the allowed peak, in place."""
    level = np.abs(block)
    loud = level > _KNEE
    room = _PEAK - _KNEE
    bent = _KNEE + room * np.tanh((level[loud] - _KNEE) / room)
    block[loud] = np.copysign(bent, block[loud])
