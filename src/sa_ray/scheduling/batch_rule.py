"""The batch rule: requests that may share a batch, and the length it is padded to.

The batcher forms batches by it, the router's forecast predicts them, and the engine pads clips to
the top of their length bucket.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from sa_ray.contracts import SAMPLE_RATE, Lora, ResolvedRequest, Sampler

HEADROOM_S: Final = 6.0
"""Audio generated past the end of a clip, seconds; ``duration_padding_sec`` of the package."""

SAMPLES_PER_LATENT: Final = 4096
"""``downsampling_ratio`` of every variant's autoencoder (its ``model_config.json``)."""

DEFAULT_SAMPLER: Final[Sampler] = "pingpong"
"""Sampler that the models are distilled for."""

T = TypeVar("T")


BatchKey = tuple[int, Sampler, bool, bool, tuple[Lora, ...]]
"""Common to the rows of a batch: steps, sampler, guidance, whether parts of an audio are kept, of
which the model is told by other inputs, and the adapters, which are merged into its weights. A
plain tuple, since the router makes some hundred for each request."""


def batch_key(request: ResolvedRequest) -> BatchKey:
    """Return the key of ``request``: only those with equal keys may share a batch."""
    sampler = request.sampler or DEFAULT_SAMPLER
    return request.steps, sampler, is_guided(request), bool(request.regions), request.loras


@lru_cache(maxsize=4096)
def bucket_of(duration: float) -> int:
    """Return the top of the length bucket, in latents, of a clip of ``duration`` seconds."""
    # Cached, since the router asks for the same requests again and again.
    samples = int((duration + HEADROOM_S) * SAMPLE_RATE)
    return length_bucket(math.ceil(samples / SAMPLES_PER_LATENT))


def is_guided(request: ResolvedRequest) -> bool:
    """Return whether each step evaluates the model twice, with the prompt and without."""
    return request.cfg_scale != 1


def length_bucket(latents: int) -> int:
    """Return the top of the length bucket of ``latents``: at most a quarter longer, or 31 latents.

    Batches are padded to the bucket of their longest clip, so that few CUDA graphs serve all.
    """
    step = next((step for top, step in ((256, 32), (512, 64), (1024, 128)) if latents <= top), 256)
    return math.ceil(latents / step) * step


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a batch.

    ``rows``: most clips. ``seconds``: most padded audio, rows times the longest, which is what a
    batch costs in memory. ``padding``: most padding of a batch, in seconds of audio, with which
    clips of other length buckets may join it.
    """

    rows: int
    seconds: float
    padding: float = 0.0


def take_batch(
    waiting: Sequence[T], request_of: Callable[[T], ResolvedRequest], bounds: Bounds
) -> tuple[list[T], list[T]]:
    """Split ``waiting`` into the next batch and the rest, both in order.

    A batch is the oldest request and others with its key, within ``bounds``: first those of its
    length bucket, then the others, oldest first. A request over a bound runs alone.
    """
    if not waiting:
        return [], []
    requests = [request_of(one) for one in waiting]
    forming = _Forming(requests[0], bounds)
    key, bucket = batch_key(requests[0]), bucket_of(requests[0].duration)
    others = []
    for place in range(1, len(requests)):
        if forming.rows >= bounds.rows:
            break
        if batch_key(requests[place]) != key:
            continue
        if bucket_of(requests[place].duration) != bucket:
            others.append(place)
        else:
            forming.take(place, requests[place], padding=math.inf)
    if bounds.padding:
        for place in others:
            forming.take(place, requests[place], padding=bounds.padding)
    taken = set(forming.places)
    batch = [waiting[place] for place in sorted(taken)]
    return batch, [one for place, one in enumerate(waiting) if place not in taken]


class _Forming:
    """A batch that grows: the places of its requests, their rows, and the audio in them."""

    def __init__(self, first: ResolvedRequest, bounds: Bounds) -> None:
        self.places = [0]
        self._bounds = bounds
        self.rows = first.n
        self._longest = first.duration
        self._audio = first.n * first.duration

    def take(self, place: int, request: ResolvedRequest, *, padding: float) -> None:
        """Add the request at ``place``, unless it would break a bound or pad by more than that."""
        rows = self.rows + request.n
        longest = max(self._longest, request.duration)
        audio = self._audio + request.n * request.duration
        padded = rows * longest
        fits = rows <= self._bounds.rows and padded <= self._bounds.seconds
        if fits and padded - audio <= padding:
            self.places.append(place)
            self.rows, self._longest, self._audio = rows, longest, audio
