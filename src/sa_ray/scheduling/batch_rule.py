"""The batch rule: requests that may share a batch, and the length it is padded to.

The batcher forms batches by it, the router's forecast predicts them, and the engine pads clips to
the top of their length bucket.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from sa_ray.contracts import SAMPLE_RATE, ResolvedRequest, Sampler

HEADROOM_S: Final = 6.0
"""Audio generated past the end of a clip, seconds; ``duration_padding_sec`` of the package."""

SAMPLES_PER_LATENT: Final = 4096
"""``downsampling_ratio`` of every variant's autoencoder (its ``model_config.json``)."""

DEFAULT_SAMPLER: Final[Sampler] = "pingpong"
"""Sampler that the models are distilled for."""

T = TypeVar("T")


class BatchKey(NamedTuple):
    """Properties that all rows of a batch share."""

    steps: int
    sampler: Sampler
    guided: bool
    length: int
    """Top of the length bucket, latents."""


def batch_key(request: ResolvedRequest) -> BatchKey:
    """Return the batch key of ``request``; requests with equal keys may share a batch."""
    samples = int((request.duration + HEADROOM_S) * SAMPLE_RATE)
    latents = math.ceil(samples / SAMPLES_PER_LATENT)
    sampler = request.sampler or DEFAULT_SAMPLER
    return BatchKey(request.steps, sampler, is_guided(request), length_bucket(latents))


def is_guided(request: ResolvedRequest) -> bool:
    """Return whether each step evaluates the model twice, with the prompt and without."""
    return request.cfg_scale != 1


def length_bucket(latents: int) -> int:
    """Return the top of the length bucket of ``latents``: at most about an eighth longer.

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
    batch: list[T] = []
    rest: list[T] = []
    longest = 0.0
    for one in waiting:
        request = request_of(one)
        longest_with = max(longest, request.duration)
        joins = not batch or (
            len(batch) < max_rows
            and longest_with * (len(batch) + 1) <= max_seconds
            and batch_key(request) == batch_key(request_of(batch[0]))
        )
        if joins:
            batch.append(one)
            longest = longest_with
        else:
            rest.append(one)
    return batch, rest
