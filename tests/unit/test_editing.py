"""Edits and loops, by the procedural engine and a real batcher."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sa_ray.contracts import CROSSFADE, SAMPLE_RATE, Region, ResolvedRequest, Source, StoredObject
from sa_ray.engines import Audio
from sa_ray.engines.procedural import ProceduralEngine
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.variant.batcher import Batcher
from sa_ray.serving.variant.editing import Editor
from sa_ray.serving.variant.sources import Sources

PROMPTS = ["rain on a tin roof", "a drum loop at 120 bpm", "an alien choir", "a church bell"]


class OneObject:
    """Implements the ``Reader`` port: it holds the samples of one upload as they are."""

    def __init__(self, samples: Audio) -> None:
        self.data = samples.tobytes()

    async def size(self, stored: StoredObject) -> int | None:
        return len(self.data)

    async def read(self, stored: StoredObject, start: int, length: int) -> bytes:
        return self.data[start : start + length]


def _as_samples(data: bytes) -> Audio:
    return np.frombuffer(data, np.float32).reshape(2, -1)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def editor(threads: ThreadPoolExecutor, upload: Audio | None = None) -> Editor:
    cost = Cost(batch=0, row=1, second=0, sampling=0, guidance=1)
    batcher = Batcher(
        ProceduralEngine("small-sfx"), Workload(Estimator(cost, 8, 100), target_wait=10)
    )
    reader = OneObject(np.zeros((2, 1), np.float32) if upload is None else upload)
    return Editor(batcher, Sources(reader, _as_samples, threads), threads)


def wanted(**fields: Any) -> ResolvedRequest:
    plain = {
        "model": "small-sfx", "prompt": "rain", "duration": 2.0, "steps": 2, "cfg_scale": 1.0,
        "seed": 7,
    }  # fmt: skip
    return ResolvedRequest.model_validate(plain | fields)


def source_of(samples: Audio, at: float = 0.0) -> Source:
    data = samples.tobytes()
    digest = hashlib.sha256(data).hexdigest()
    stored = StoredObject(backend="local", key="x", size=len(data), sha256=digest)
    return Source(upload_id=digest, object=stored, seconds=samples.shape[1] / SAMPLE_RATE, at=at)


def noise(seconds: float) -> Audio:
    samples = np.random.default_rng(1).standard_normal((2, round(seconds * SAMPLE_RATE)))
    return (0.1 * samples).astype(np.float32)


async def render(threads: ThreadPoolExecutor, upload: Audio, **fields: Any) -> Audio:
    request = wanted(source=source_of(upload, fields.pop("at", 0.0)), **fields)
    rendered = await editor(threads, upload).render(request, lambda _: None)
    return rendered.samples


async def test_only_the_regions_are_new(threads: ThreadPoolExecutor) -> None:
    upload = noise(2)
    regions = (Region(start=0.5, end=0.9), Region(start=1.5, end=2.0))

    clip = await render(threads, upload, regions=regions)

    assert clip.shape == upload.shape
    same = (clip == upload).all(axis=0)
    for start, end, kept in (
        (0.0, 0.5, True), (0.5, 0.9, False), (0.9, 1.5, True), (1.5, 2.0, False),
    ):  # fmt: skip
        part = same[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        assert part.all() if kept else part.mean() < 0.01


@pytest.mark.parametrize("intro", [0.0, 0.75])
async def test_a_continuation_keeps_the_sound_at_its_place(
    threads: ThreadPoolExecutor, intro: float
) -> None:
    upload = noise(1)
    before = (Region(start=0, end=intro + CROSSFADE),) if intro else ()
    after = Region(start=intro + 1 - CROSSFADE, end=3.0)

    clip = await render(threads, upload, at=intro, duration=3.0, regions=(*before, after))

    assert clip.shape == (2, 3 * SAMPLE_RATE)
    at, fade = round(intro * SAMPLE_RATE), round(CROSSFADE * SAMPLE_RATE)
    kept = slice(fade if intro else 0, SAMPLE_RATE - fade)
    np.testing.assert_array_equal(clip[:, at : at + SAMPLE_RATE][:, kept], upload[:, kept])
    # No gap where the old sound ends: each hundredth of a second is about as loud.
    joint = clip[:, at + SAMPLE_RATE - 2 * fade : at + SAMPLE_RATE + 2 * fade]
    levels = np.sqrt(np.square(joint).reshape(2, -1, fade // 2).mean(axis=(0, 2)))
    assert levels.min() > 0.3 * levels.max()


async def test_a_whole_clip_is_made_from_its_source(threads: ThreadPoolExecutor) -> None:
    upload = noise(2)

    same = await render(threads, upload, init_noise_level=0.0)
    near = await render(threads, upload, init_noise_level=0.2)
    far = await render(threads, upload, init_noise_level=0.9)

    np.testing.assert_array_equal(same, upload)
    assert np.abs(near - upload).mean() < np.abs(far - upload).mean()


async def test_a_source_of_another_length_is_cut_or_goes_on(threads: ThreadPoolExecutor) -> None:
    for duration in (1.0, 3.0):
        clip = await render(threads, noise(2), duration=duration, init_noise_level=0.5)

        assert clip.shape == (2, round(duration * SAMPLE_RATE))
        assert np.abs(clip[:, -SAMPLE_RATE // 2 :]).max() > 0.01


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("duration", [1.0, 6.00001])
async def test_the_end_of_a_loop_goes_over_into_its_start(
    threads: ThreadPoolExecutor, prompt: str, duration: float
) -> None:
    progress: list[float] = []

    request = wanted(prompt=prompt, duration=duration, loop=True, steps=4)
    loop = (await editor(threads).render(request, progress.append)).samples

    plain = (await editor(threads).render(wanted(prompt=prompt), lambda _: None)).samples
    assert loop.shape == (2, round(duration * SAMPLE_RATE))
    steps = np.abs(np.diff(loop, axis=1)).max(axis=0)
    assert np.abs(loop[:, 0] - loop[:, -1]).max() < np.median(steps)
    # Nor is it silent there, as clips are at their ends.
    hundredth = SAMPLE_RATE // 100
    assert np.abs(plain[:, -40:]).max() < 0.05 * np.abs(plain).max()
    around = np.concatenate([loop[:, -hundredth:], loop[:, :hundredth]], axis=1)
    if "rain" in prompt or "choir" in prompt:
        assert np.sqrt(np.mean(around**2)) > 0.3 * np.sqrt(np.mean(loop**2))
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


async def test_a_loop_is_the_same_each_time(threads: ThreadPoolExecutor) -> None:
    first, again = [
        (await editor(threads).render(wanted(loop=True), lambda _: None)).samples for _ in range(2)
    ]

    np.testing.assert_array_equal(first, again)


async def test_audio_can_be_made_a_loop(threads: ThreadPoolExecutor) -> None:
    upload = noise(4)

    clip = await render(threads, upload, duration=4.0, init_noise_level=0.0, loop=True)

    assert clip.shape == upload.shape
    # The middle is the source, from at most 10 ms beside its place.
    middle = clip[0, 2 * SAMPLE_RATE : 2 * SAMPLE_RATE + 1000]
    shifts = range(-442, 443)
    found = [
        np.array_equal(upload[0, 2 * SAMPLE_RATE + by : 2 * SAMPLE_RATE + by + 1000], middle)
        for by in shifts
    ]
    assert sum(found) == 1
