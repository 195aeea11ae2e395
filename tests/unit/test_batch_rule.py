"""The batch rule: what may share a batch, how long it becomes, and who goes first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_ray.contracts import Lora, Region, ResolvedRequest
from sa_ray.scheduling.batch_rule import Bounds, batch_key, bucket_of, length_bucket, take_batch


def clip(**changes: Any) -> ResolvedRequest:
    fields = {"prompt": "rain", "duration": 0.5, "steps": 4, "cfg_scale": 1.0, "seed": 0}
    return ResolvedRequest.model_validate({"model": "small-sfx", **fields, **changes})


clips = st.builds(
    clip,
    duration=st.floats(0.01, 380),
    steps=st.sampled_from([4, 8]),
    cfg_scale=st.sampled_from([1.0, 2.0]),
)


@pytest.mark.parametrize(
    "alike",
    [
        {"prompt": "b"}, {"seed": 1}, {"duration": 60.0}, {"negative_prompt": "c"},
        {"init_noise_level": 0.5},
    ],
)  # fmt: skip
def test_rows_may_differ_in_what_a_batch_does_not_share(alike: dict[str, Any]) -> None:
    assert batch_key(clip(**alike)) == batch_key(clip())


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 8}, {"cfg_scale": 2.0}, {"sampler": "euler"},
        {"regions": [Region(start=0.1, end=0.3)]},
        {"loras": [Lora(name="warm", strength=1.0, sha256="0" * 64)]},
    ],
)  # fmt: skip
def test_rows_of_one_batch_agree_in_steps_guidance_sampler_keeping_audio_and_adapters(
    other: dict[str, Any],
) -> None:
    assert batch_key(clip(**other)) != batch_key(clip())


def test_where_regions_lie_does_not_matter_to_a_batch() -> None:
    regions = ([Region(start=0, end=0.2)], [Region(start=0.1, end=0.2), Region(start=0.3, end=0.5)])

    assert len({batch_key(clip(regions=some)) for some in regions}) == 1


def test_any_guidance_is_like_any_other() -> None:
    assert len({batch_key(clip(cfg_scale=scale)) for scale in (1.5, 2.0, 7.0)}) == 1


def test_adapters_share_a_batch_only_with_the_same_files_at_the_same_strengths() -> None:
    warm = Lora(name="warm", strength=1.0, sha256="0" * 64)
    others = [{"strength": 0.5}, {"sha256": "1" * 64}]
    keys = {batch_key(clip(loras=[warm.model_copy(update=other)])) for other in others}

    assert len(keys | {batch_key(clip(loras=[warm])), batch_key(clip(loras=[warm, warm]))}) == 4
    assert batch_key(clip(loras=[warm])) == batch_key(clip(loras=[warm], prompt="bells"))


@given(st.integers(1, 10_000))
def test_a_bucket_holds_its_clips_and_wastes_little(latents: int) -> None:
    top = length_bucket(latents)

    assert latents <= top < latents + max(32, latents / 3)
    assert length_bucket(top) == top


@given(
    st.lists(clips, max_size=20),
    st.integers(1, 8),
    st.floats(10, 800),
    st.sampled_from([0.0, 50.0]),
)
def test_a_batch_is_the_oldest_and_all_that_may_join_it(
    waiting: list[ResolvedRequest], max_rows: int, max_seconds: float, padding: float
) -> None:
    bounds = Bounds(max_rows, max_seconds, padding)

    batch, rest = take_batch(waiting, lambda request: request, bounds)

    assert sorted(map(id, batch + rest)) == sorted(map(id, waiting))
    assert batch[:1] == waiting[:1]
    assert len(batch) <= max_rows
    assert len({batch_key(request) for request in batch}) <= 1
    longest = max((request.duration for request in batch), default=0)
    assert len(batch) <= 1 or longest * len(batch) <= max_seconds
    if 0 < len(batch) < max_rows:
        for request in rest:
            padded = max(longest, request.duration) * (len(batch) + 1)
            audio = sum(row.duration for row in (*batch, request))
            alike = bucket_of(request.duration) == bucket_of(batch[0].duration)
            # Those that were passed over before a longer one joined may have been too much then.
            assert (
                padded > max_seconds
                or batch_key(request) != batch_key(batch[0])
                or (not alike and padded - audio > padding)
            )


def lengths(durations: list[float], bounds: Bounds) -> list[float]:
    """Durations of the batch that is taken of clips of ``durations``, in the order of arrival."""
    batch, _ = take_batch(durations, lambda duration: clip(duration=duration), bounds)
    return batch


def test_clips_of_other_lengths_join_while_padding_costs_less_than_their_own_batch() -> None:
    assert lengths([1, 30, 5], Bounds(8, 480, padding=0)) == [1]
    assert lengths([1, 30, 5], Bounds(8, 480, padding=40)) == [1, 30]
    assert lengths([1, 30, 5], Bounds(8, 480, padding=60)) == [1, 30, 5]


def test_clips_of_the_same_length_bucket_come_before_others() -> None:
    assert lengths([1, 30, 5, 1, 1], Bounds(3, 480, padding=100)) == [1, 1, 1]


def test_a_request_has_a_row_for_each_of_its_clips() -> None:
    four, two, one = (clip(duration=10).model_copy(update={"n": n}) for n in (4, 2, 1))

    def batch(waiting: list[ResolvedRequest], bounds: Bounds) -> list[ResolvedRequest]:
        return take_batch(waiting, lambda request: request, bounds)[0]

    assert batch([four, two, two, one], Bounds(8, 480)) == [four, two, two]
    assert batch([two, four, one], Bounds(8, 50)) == [two, one], "of seconds too"
    assert batch([four, one], Bounds(3, 480)) == [four], "over the bound: alone"
