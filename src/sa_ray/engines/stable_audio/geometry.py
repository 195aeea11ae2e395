"""Geometry of clips: latents to generate, decode and encode, chunks, padded sizes. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sa_ray.scheduling.batch_rule import HEADROOM_S, length_bucket

CHUNK: Final = 256
"""Latents decoded or encoded at once. The package takes 128, of which it keeps 96: the rest
overlaps."""

LATENTS_AT_ONCE: Final = 1024
"""Most latents decoded or encoded together on a GPU, over all rows; bounds the memory for it."""

PADDED_LENGTHS: Final = (32, 64, 96, 128, 192, CHUNK)
"""Chunk lengths on a GPU, in latents; few, so that each has its own CUDA graph."""

ROWS_DOUBLED: Final = 8
"""Rows up to which batches are padded to powers of two; there, steps hardly depend on them."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of one model. ``margin``: latents on each side that coding one depends on."""

    sample_rate: int
    samples_per_latent: int
    align: int
    """Latents that the autoencoder attends over at once; clip lengths are multiples of it."""
    max_latents: int
    margin: int

    @property
    def longest(self) -> float:
        """Seconds of the longest clip."""
        return self.max_latents * self.samples_per_latent / self.sample_rate

    def samples(self, duration: float) -> int:
        """Samples of a clip of ``duration`` seconds, exactly."""
        return round(duration * self.sample_rate)

    def fits(self, duration: float) -> bool:
        """Return whether the model can make a clip of ``duration`` seconds."""
        return 0 < self.samples(duration) <= self.max_latents * self.samples_per_latent

    def content(self, duration: float) -> int:
        """Latents that hold the clip itself; the package's "effective length"."""
        return math.ceil(int(duration * self.sample_rate) / self.samples_per_latent)

    def latents(self, duration: float) -> int:
        """Latents to generate: clip and headroom, aligned, at most ``max_latents``."""
        samples = int((duration + HEADROOM_S) * self.sample_rate)
        return min(self._aligned(math.ceil(samples / self.samples_per_latent)), self.max_latents)

    def valid(self, duration: float) -> int:
        """Leading ``latents(duration)`` that may be attended to; the rest is padding."""
        headroom = int(HEADROOM_S * self.sample_rate / self.samples_per_latent)
        return min(self.content(duration) + headroom, self.latents(duration))

    def decoded(self, duration: float) -> int:
        """Latents to decode: those of the clip, and those whose decoding reaches into it."""
        clip = math.ceil(self.samples(duration) / self.samples_per_latent)
        return min(self._aligned(clip + self.margin), self.latents(duration))

    def anew(self, start: float, end: float) -> tuple[int, int]:
        """Return the first latent, and the one after the last, of a region in seconds.

        They cover it whole. The package rounds its start inward, so that up to 93 ms of a region
        are what was there before.
        """
        first, last = self.samples(start), self.samples(end)
        return first // self.samples_per_latent, math.ceil(last / self.samples_per_latent)

    def padded(self, latents: int) -> int:
        """Top of the length bucket of ``latents``, at most ``max_latents``."""
        return min(length_bucket(latents), self.max_latents)

    def _aligned(self, latents: int) -> int:
        return math.ceil(latents / self.align) * self.align


@dataclass(frozen=True, slots=True)
class Chunk:
    """Latents ``[start, stop)`` to code, of which ``[keep_start, keep_stop)`` are used."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def chunks_of(latents: int, *, margin: int, size: int = CHUNK) -> Iterator[Chunk]:
    """Cut ``latents`` into overlapping chunks whose kept parts join without a seam.

    ``margin``: latents on either side of a kept part, even and below ``size / 2``. They cover all
    that its coding depends on, so the result equals that of coding everything at once.
    """
    if latents <= size:
        yield Chunk(0, latents, 0, latents)
        return
    kept = 0
    while kept < latents:
        start = min(max(kept - margin, 0), latents - size)
        stop = start + size
        keep_stop = latents if stop == latents else stop - margin
        yield Chunk(start, stop, kept, keep_stop)
        kept = keep_stop


def chunk_groups(
    clips: Sequence[tuple[int, int]], *, margin: int, pad_shapes: bool
) -> Iterator[tuple[tuple[int, int], list[tuple[int, Chunk]]]]:
    """Yield the rows and the length to pad a group of chunks to, and the group: clip and chunk.

    ``clips``: the latents of each, and its longest chunk. Without ``pad_shapes`` each chunk is a
    group, as long as it is.
    """
    pieces: dict[int, list[tuple[int, Chunk]]] = defaultdict(list)
    for index, (latents, longest) in enumerate(clips):
        for chunk in chunks_of(latents, margin=margin, size=longest):
            length = chunk.stop - chunk.start
            if pad_shapes:
                length = next((padded for padded in PADDED_LENGTHS if length <= padded), length)
            pieces[length].append((index, chunk))
    for length, wanted in pieces.items():
        at_once = max(1, LATENTS_AT_ONCE // length) if pad_shapes else 1
        for first in range(0, len(wanted), at_once):
            group = wanted[first : first + at_once]
            yield (rows_padded(len(group), at_once), length), group


def rows_padded(rows: int, limit: int) -> int:
    """Pad a batch to one of a few numbers of rows, at most ``limit``; each has CUDA graphs.

    They are 1, 2, 4, 8, and then multiples of half the power of two below: 12, 16, 24, 32, 48, ...
    """
    power = 1 << (rows - 1).bit_length()
    three_quarters = power * 3 // 4
    padded = three_quarters if power > ROWS_DOUBLED and rows <= three_quarters else power
    return max(rows, min(padded, limit))


def halves(rows: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Split a batch that was too large for memory into two."""
    middle = (len(rows) + 1) // 2
    return rows[:middle], rows[middle:]
