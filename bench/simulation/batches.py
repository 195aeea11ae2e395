"""Which requests a replica takes together."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from sa_ray.contracts import ResolvedRequest
from sa_ray.costs import Estimator

LENGTH_RATIO: Final = 1.125
LENGTH_SLACK: Final = 3.0
"""Seconds. With the ratio: the width of the length buckets that the model's engine batches by."""

T = TypeVar("T")


def first_batch(
    estimator: Estimator, waiting: Sequence[T], body: Callable[[T], ResolvedRequest]
) -> tuple[list[T], list[T]]:
    """What ``Batcher`` takes of ``waiting``: the oldest, and those behind it that may join it;
    and what it leaves. ``body``: the request of each."""
    batch: list[T] = []
    left: list[T] = []
    for one in waiting:
        joins = _may_join(estimator, [body(row) for row in batch], body(one))
        (batch if joins else left).append(one)
    return batch, left


def _may_join(
    estimator: Estimator, batch: Sequence[ResolvedRequest], request: ResolvedRequest
) -> bool:
    """Steps and guidance are the same, lengths are near enough, as ``Engine.batch_key`` demands,
    give or take."""
    if not batch:
        return True
    longest = max(request.duration, *(row.duration for row in batch))
    shortest = min(request.duration, *(row.duration for row in batch))
    return (
        len(batch) < estimator.max_rows
        and longest * (len(batch) + 1) <= estimator.max_seconds
        and longest <= LENGTH_RATIO * shortest + LENGTH_SLACK
        and request.steps == batch[0].steps
        and (request.cfg_scale == 1) == (batch[0].cfg_scale == 1)
    )
