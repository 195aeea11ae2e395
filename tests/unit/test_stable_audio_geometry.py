"""Lengths, groups and chunks of the Stable Audio 3 engine, without torch."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_ray.engines.stable_audio.geometry import (
    CHUNK,
    LATENTS_AT_ONCE,
    PADDED_LENGTHS,
    Geometry,
    chunk_groups,
    chunks_of,
    halves,
    rows_padded,
)

SMALL = Geometry(sample_rate=44_100, samples_per_latent=4096, align=2, max_latents=1292, margin=4)
MEDIUM = Geometry(sample_rate=44_100, samples_per_latent=4096, align=2, max_latents=4096, margin=14)

geometries = st.sampled_from([SMALL, MEDIUM])
durations = st.floats(min_value=0.01, max_value=120.0)


@pytest.mark.parametrize(
    ("duration", "latents", "valid"),
    [(5.0, 120, 118), (30.0, 388, 387), (120.0, 1292, 1292), (0.1, 66, 66)],
)
def test_lengths_are_those_of_the_package(duration: float, latents: int, valid: int) -> None:
    assert SMALL.latents(duration) == latents
    assert SMALL.valid(duration) == valid


@given(geometries, durations)
def test_what_is_decoded_holds_the_clip_and_was_generated(
    geometry: Geometry, duration: float
) -> None:
    decoded = geometry.decoded(duration)

    assert decoded * geometry.samples_per_latent >= geometry.samples(duration)
    assert decoded <= geometry.latents(duration) <= geometry.max_latents
    assert decoded % geometry.align == 0
    assert 0 < geometry.valid(duration) <= geometry.latents(duration)


@given(geometries, durations)
def test_a_bucket_is_coarse_and_never_too_short(geometry: Geometry, duration: float) -> None:
    latents = geometry.latents(duration)
    padded = geometry.padded(latents)

    assert latents <= padded <= geometry.max_latents
    assert padded - latents < max(32, latents / 3)
    assert geometry.padded(padded) == padded


def test_there_are_few_buckets() -> None:
    assert len({SMALL.padded(latents) for latents in range(2, 1293)}) <= 18
    assert len({MEDIUM.padded(latents) for latents in range(2, 4097)}) <= 30


@pytest.mark.parametrize(
    ("geometry", "longest"), [(SMALL, 120.0), (MEDIUM, 380.0)], ids=["small", "medium"]
)
def test_a_clip_fits_up_to_the_longest(geometry: Geometry, longest: float) -> None:
    assert geometry.fits(longest)
    assert geometry.decoded(longest) * 4096 >= geometry.samples(longest)
    assert not geometry.fits(longest + 1)
    assert not geometry.fits(0.0)


@given(durations, durations)
def test_a_region_is_covered_by_as_few_latents_as_can_be(one: float, other: float) -> None:
    start, end = sorted((one, other))
    first, last = SMALL.anew(start, end)

    assert first * 4096 <= SMALL.samples(start) < (first + 1) * 4096
    assert (last - 1) * 4096 < SMALL.samples(end) <= last * 4096


@given(st.lists(st.integers(1, 700), min_size=1, max_size=40), st.booleans())
def test_groups_hold_each_chunk_once_in_a_shape_that_fits_it(
    clips: list[int], pad_shapes: bool
) -> None:
    groups = list(chunk_groups([(clip, CHUNK) for clip in clips], margin=4, pad_shapes=pad_shapes))
    found = sorted((index, chunk.start) for _, group in groups for index, chunk in group)

    assert found == [
        (index, chunk.start)
        for index, clip in enumerate(clips)
        for chunk in chunks_of(clip, margin=4)
    ]
    for (rows, length), group in groups:
        assert len(group) <= rows
        assert all(chunk.stop - chunk.start <= length <= CHUNK for _, chunk in group)
        assert rows * length <= LATENTS_AT_ONCE
        assert length in PADDED_LENGTHS if pad_shapes else len(group) == rows == 1


@given(st.integers(2, 5000), st.sampled_from([4, 14]), st.sampled_from([64, 128]))
def test_chunks_keep_every_latent_once_with_its_surroundings(
    latents: int, margin: int, size: int
) -> None:
    chunks = list(chunks_of(latents, margin=margin, size=size))
    kept = [latent for chunk in chunks for latent in range(chunk.keep_start, chunk.keep_stop)]

    assert kept == list(range(latents))
    for chunk in chunks:
        assert chunk.stop - chunk.start == min(size, latents)
        assert chunk.start == 0 or chunk.keep_start - chunk.start >= margin
        assert chunk.stop == latents or chunk.stop - chunk.keep_stop >= margin


@given(st.integers(1, 2500))
def test_chunks_of_an_even_clip_start_where_the_autoencoder_starts_a_group(pairs: int) -> None:
    chunks = chunks_of(2 * pairs, margin=4)
    assert all(chunk.start % 2 == 0 for chunk in chunks)


@given(st.integers(1, 64), st.integers(1, 64))
def test_rows_are_padded_to_few_sizes(rows: int, limit: int) -> None:
    padded = rows_padded(rows, limit)

    assert rows <= padded <= max(rows, limit)
    assert padded in (rows, limit) or any(
        math.log2(part).is_integer() for part in (padded, padded * 4 / 3)
    )


def test_few_sizes_of_batches_waste_little_where_rows_cost() -> None:
    sizes = {rows_padded(rows, 64) for rows in range(1, 65)}

    assert sizes == {1, 2, 4, 8, 12, 16, 24, 32, 48, 64}
    assert all(rows_padded(rows, 64) < 1.5 * rows for rows in range(8, 65))


@given(st.lists(st.integers(), min_size=2))
def test_halves_are_the_whole_and_both_smaller(rows: list[int]) -> None:
    first, second = halves(rows)

    assert [*first, *second] == rows
    assert 0 < len(second) <= len(first) < len(rows)
