"""Sample a batch whose rows do not depend on each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from sa_ray.contracts import Sampler
from sa_ray.engines.port import IsCancelled, OnStep
from sa_ray.engines.stable_audio.denoiser import Conditioning, Denoiser
from sa_ray.engines.stable_audio.solvers import SAMPLERS, Step
from sa_ray.engines.stable_audio.transfers import to_device


@dataclass(frozen=True, slots=True)
class Row:
    """``length`` latents to generate, the first ``valid`` of them attended to.

    ``schedule``: float32 ``[steps + 1]`` noise levels, from ``start`` to 0. ``initial``: clean
    latents that noise is mixed into at first, ``start`` in [0, 1] of it; float32
    ``[channels, length]``, or None: noise alone.
    """

    seed: int
    length: int
    valid: int
    schedule: Any
    initial: Any = None
    start: float = 1.0


class _Noise:
    """One row's noise: a function of its seed and length alone, on any device.

    It is drawn on the CPU, since CUDA's generator depends on the model of the GPU. The order of
    draws is the package's for a batch of one.
    """

    def __init__(self, row: Row, channels: int) -> None:
        self._generator = torch.Generator().manual_seed(row.seed)
        self._shape = 1, channels, row.length

    def draw(self, length: int) -> Any:
        noise = torch.randn(self._shape, generator=self._generator)
        return functional.pad(noise, (0, length - self._shape[-1]))


@dataclass(slots=True)
class _Batch:
    """The rows that nobody has cancelled; tensors have an entry for each, in their order."""

    rows: list[int]
    noises: list[_Noise]
    x: Any
    clean: Any
    """The last guess of the clean latents; None before the first step."""
    levels: Any
    valid: Any
    conditioning: Conditioning

    def keep(self, places: list[int]) -> None:
        """Drop all rows but those at ``places``."""
        if len(places) == len(self.rows):
            return
        index = torch.tensor(places, device=self.x.device)
        self.rows = [self.rows[place] for place in places]
        self.noises = [self.noises[place] for place in places]
        self.x, self.levels, self.valid = self.x[index], self.levels[index], self.valid[index]
        self.clean = None if self.clean is None else self.clean[index]
        self.conditioning = self.conditioning.select(index)

    def step(self, number: int, *, is_last: bool) -> Step:
        """Describe step ``number``, from 0."""
        return Step(
            level=self.levels[:, number],
            following=self.levels[:, number + 1],
            previous=self.levels[:, number - 1] if number else None,
            clean=self.clean,
            is_last=is_last,
            noise=partial(_draw, self.noises, self.x.shape[-1], self.x.device),
        )


def sample(
    denoiser: Denoiser,
    rows: Sequence[Row],
    conditioning: Conditioning,
    *,
    sampler: Sampler,
    channels: int,
    length: int,
    on_step: OnStep,
    is_cancelled: IsCancelled,
) -> dict[int, Any]:
    """Return float32 latents ``[channels, length]`` by row, without the cancelled rows.

    All rows have the same number of steps. ``length`` is at least that of the longest row; shorter
    rows are padded to it, and nothing attends to the padding. Cancelled rows leave between steps,
    and the batch shrinks.
    """
    batch = _begin(rows, conditioning, channels, length, denoiser.device)
    steps = len(rows[0].schedule) - 1
    take = SAMPLERS[sampler]
    pace = _Pace(denoiser.device)
    for step in range(steps):
        staying = [place for place, row in enumerate(batch.rows) if not is_cancelled(row)]
        if not staying:
            return {}
        batch.keep(staying)
        velocity = partial(denoiser.velocity, valid=batch.valid, conditioning=batch.conditioning)
        taken = take(velocity, batch.x, batch.step(step, is_last=step + 1 == steps))
        batch.x, batch.clean = taken.x, taken.clean
        pace.step()
        for row in batch.rows:
            on_step(row, (step + 1) / steps)
    return {
        # Without noise there is nothing to do, and samplers would divide by it.
        row: latents if rows[row].start else rows[row].initial
        for row, latents in zip(batch.rows, batch.x, strict=True)
    }


def _begin(
    rows: Sequence[Row], conditioning: Conditioning, channels: int, length: int, device: Any
) -> _Batch:
    noises = [_Noise(row, channels) for row in rows]
    ends = torch.tensor([row.valid for row in rows], device=device)
    levels = torch.stack([row.schedule for row in rows]).to(device)[:, :, None, None]
    x = _draw(noises, length, device)
    if any(row.initial is not None for row in rows):
        initials = [
            torch.zeros_like(noise)
            if row.initial is None
            else functional.pad(row.initial, (0, length - row.length))
            for row, noise in zip(rows, x, strict=True)
        ]
        x = torch.stack(initials) * (1 - levels[:, 0]) + x * levels[:, 0]
    return _Batch(
        rows=list(range(len(rows))),
        noises=noises,
        x=x,
        clean=None,
        levels=levels,
        valid=torch.arange(length, device=device) < ends[:, None],
        conditioning=conditioning,
    )


def _draw(noises: Sequence[_Noise], length: int, device: Any) -> Any:
    return to_device(torch.cat([noise.draw(length) for noise in noises]), device)


class _Pace:
    """Keeps the host one step ahead of a GPU, so that it waits for nothing between steps.

    The next step's noise is drawn meanwhile; progress is real to a step, and a cancelled row stops
    within two.
    """

    def __init__(self, device: Any) -> None:
        self._on_cuda = device.type == "cuda"
        self._previous: Any = None

    def step(self) -> None:
        """Mark the end of a step, and wait for that of the step before."""
        if not self._on_cuda:
            return
        event = torch.cuda.Event(blocking=True)
        event.record()
        if self._previous is not None:
            self._previous.synchronize()
        self._previous = event
