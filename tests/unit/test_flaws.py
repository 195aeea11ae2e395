"""Clips that nobody can have wanted, and the second attempt at them."""

from collections.abc import Sequence

import numpy as np
import pytest

from sa_ray.contracts import MAX_SEED, ResolvedRequest
from sa_ray.engines import flaw_of
from sa_ray.errors import GenerationError
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.variant.batcher import OnProgress, Rendered
from sa_ray.serving.variant.second_attempt import Checked, render_checked
from sa_ray.settings import load_settings

RATE = 44_100
SOUND, SILENCE, CONSTANT, BROKEN = (
    np.full((2, 10), 0.5, np.float32) * ([1, -1] * 5),
    np.zeros((2, 10), np.float32),
    np.full((2, 10), 0.5, np.float32),
    np.full((2, 10), np.nan, np.float32),
)


def tone(level: float) -> np.ndarray:
    return level * np.sin(np.arange(RATE) / 7) * np.ones((2, 1))


@pytest.mark.parametrize("level", [1.0, 0.01, 0.0002])
def test_a_quiet_clip_is_a_clip(level: float) -> None:
    assert flaw_of(tone(level)) is None


def test_sound_in_one_channel_is_sound() -> None:
    assert flaw_of(tone(0.1) * [[0], [1]]) is None


@pytest.mark.parametrize("samples", [SILENCE, tone(0.00005)], ids=["zeros", "under -80 dBFS"])
def test_what_nobody_hears_is_silent(samples: np.ndarray) -> None:
    assert flaw_of(samples) == "is silent"


@pytest.mark.parametrize("levels", [(0.5, 0.5), (0.5, -0.2), (0.0, 0.3)])
def test_a_clip_that_only_has_a_level_is_constant(levels: Sequence[float]) -> None:
    assert flaw_of(np.tile(np.array(levels)[:, None], 100)) == "is constant"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_no_number_is_enough(number: float) -> None:
    samples = tone(0.1)
    samples[1, 77] = number

    assert flaw_of(samples) == "has samples that are not numbers"


def test_the_description_of_the_api_says_what_may_be_asked_and_what_is_told() -> None:
    settings = load_settings({})
    api = build_http_app(settings.edge, settings.limits).openapi()
    asked = api["components"]["schemas"]["GenerationRequest"]["properties"]

    assert asked["retry_bad"]["default"] is False
    assert "warning" in api["components"]["schemas"]["JobView"]["required"]
    for path, method in (("/v1/audio/generations", "post"), ("/jobs/{job_id}/audio", "get")):
        assert {"X-Seed", "X-Warning"} <= set(
            api["paths"][path][method]["responses"]["200"]["headers"]
        )


async def attempt(
    *clips: np.ndarray, retry_bad: bool = False, seed: int = 7
) -> tuple[Checked, list[int]]:
    """Return what comes of a request whose attempts render ``clips``, and their seeds."""
    seeds: list[int] = []

    async def render(request: ResolvedRequest, on_progress: OnProgress) -> Rendered:
        seeds.append(request.seed)
        return Rendered(clips[len(seeds) - 1], seconds=1.5)

    async def check(samples: np.ndarray) -> str | None:
        return flaw_of(samples)

    request = ResolvedRequest(
        model="small-sfx", prompt="rain", duration=1, steps=8, cfg_scale=1, seed=seed,
        retry_bad=retry_bad,
    )  # fmt: skip
    return await render_checked(render, check, request, lambda fraction: None), seeds


@pytest.mark.parametrize("retry_bad", [False, True])
async def test_a_sound_clip_is_made_once_and_comes_without_a_warning(retry_bad: bool) -> None:
    checked, seeds = await attempt(SOUND, retry_bad=retry_bad)

    assert (checked.seed, checked.warning, seeds) == (7, None, [7])


@pytest.mark.parametrize(("clip", "flaw"), [(SILENCE, "silent"), (CONSTANT, "constant")])
async def test_a_clip_without_sound_comes_with_a_warning_that_says_what_to_do(
    clip: np.ndarray, flaw: str
) -> None:
    checked, seeds = await attempt(clip)

    assert (checked.seed, seeds) == (7, [7])
    assert checked.warning == (
        f"The clip with seed 7 is {flaw}. Try another seed, or let retry_bad do so."
    )


@pytest.mark.parametrize("clip", [SILENCE, CONSTANT, BROKEN], ids=["silent", "constant", "broken"])
async def test_a_bad_clip_is_made_again_with_the_next_seed_where_that_is_allowed(
    clip: np.ndarray,
) -> None:
    checked, seeds = await attempt(clip, SOUND, retry_bad=True)

    assert (checked.seed, checked.warning, seeds) == (8, None, [7, 8])
    np.testing.assert_array_equal(checked.rendered.samples, SOUND)
    assert checked.rendered.seconds == 3.0


async def test_after_the_last_seed_comes_the_first() -> None:
    checked, _ = await attempt(SILENCE, SOUND, retry_bad=True, seed=MAX_SEED)

    assert checked.seed == 0


async def test_a_second_attempt_that_breaks_costs_nobody_the_first_clip() -> None:
    checked, seeds = await attempt(SILENCE, BROKEN, retry_bad=True)

    assert (checked.seed, seeds) == (7, [7, 8])
    assert checked.warning is not None
    assert "with seed 7 is silent" in checked.warning
    np.testing.assert_array_equal(checked.rendered.samples, SILENCE)


async def test_there_is_no_third_attempt() -> None:
    checked, seeds = await attempt(CONSTANT, SILENCE, retry_bad=True)

    assert (checked.seed, seeds) == (8, [7, 8])
    assert checked.warning == (
        "The clip with seed 8 is silent. That with seed 7 was no better: try another prompt."
    )


@pytest.mark.parametrize(
    ("clips", "retry_bad", "seed"),
    [([BROKEN], False, 7), ([BROKEN, BROKEN], True, 7)],
)
async def test_broken_samples_are_an_error(
    clips: list[np.ndarray], retry_bad: bool, seed: int
) -> None:
    with pytest.raises(GenerationError, match=f"with seed {seed} has samples that are not numbers"):
        await attempt(*clips, retry_bad=retry_bad)
