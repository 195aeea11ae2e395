"""The batch rule: requests that may share a batch, and the length it is padded to.

The batcher forms batches by it, the router's forecast predicts them, and the engine pads clips to
the top of their length bucket.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from sa_ray.contracts import SAMPLE_RATE, ResolvedRequest, Sampler

HEADROOM_S: Final = 6.0
"""Audio generated past the end of a clip, seconds; ``duration_padding_sec`` of the package."""

SAMPLES_PER_LATENT: Final = 4096
"""``downsampling_ratio`` of every variant's autoencoder (its ``model_config.json``)."""

DEFAULT_SAMPLER: Final[Sampler] = "pingpong"
"""Sampler that the models are distilled for."""

T = TypeVar("T")


BatchKey = tuple[int, Sampler, bool, int]
"""Common to the rows of a batch: steps, sampler, guidance, and the top of the length bucket in
latents. A plain tuple, since the router makes some hundred for each request."""


def batch_key(request: ResolvedRequest) -> BatchKey:
    """Return the key of ``request``: those with equal keys may share a batch."""
    return (
        request.steps,
        request.sampler or DEFAULT_SAMPLER,
        is_guided(request),
        _bucket_of(request.duration),
    )


@lru_cache(maxsize=4096)
def _bucket_of(duration: float) -> int:
    # Cached, since the router asks for the same requests again and again.
    samples = int((duration + HEADROOM_S) * SAMPLE_RATE)
    return length_bucket(math.ceil(samples / SAMPLES_PER_LATENT))


def is_guided(request: ResolvedRequest) -> bool:
    """Return whether each step evaluates the model twice, with the prompt and without."""
    return request.cfg_scale != 1


def length_bucket(latents: int) -> int:
    """Return the top of the length bucket of ``latents``: at most a quarter longer, or 31 latents.

    Clips of one bucket share a batch, and one captured CUDA graph for each batch size.
    """
    step = next((step for top, step in ((256, 32), (512, 64), (1024, 128)) if latents <= top), 256)
    return math.ceil(latents / step) * step


def take_batch(
    waiting: Sequence[T],
    request_of: Callable[[T], ResolvedRequest],
    *,
    max_rows: int,
    max_seconds: float,
) -> tuple[list[T], list[T]]:
    """Split ``waiting`` into the next batch and the rest, both in order.

    A batch is the oldest request and those behind it with its key, within ``max_rows`` requests and
    ``max_seconds`` of padded audio. Padded audio is rows times the longest row, which is what a
    batch costs in memory. A request over ``max_seconds`` by itself runs alone.
    """
    if not waiting:
        return [], []
    batch = [waiting[0]]
    rest: list[T] = []
    first = request_of(waiting[0])
    longest, key = first.duration, batch_key(first)
    for place, one in enumerate(waiting[1:], start=1):
        if len(batch) == max_rows:
            rest.extend(waiting[place:])
            break
        request = request_of(one)
        longest_with = max(longest, request.duration)
        if longest_with * (len(batch) + 1) <= max_seconds and batch_key(request) == key:
            batch.append(one)
            longest = longest_with
        else:
            rest.append(one)
    return batch, rest
