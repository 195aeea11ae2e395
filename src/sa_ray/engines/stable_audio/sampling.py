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


@dataclass(frozen=True, slots=True)
class Row:
    """``length`` latents to generate, the first ``valid`` of them attended to.

    ``schedule``: float32 ``[steps + 1]`` noise levels, falling from 1 to 0.
    """

    seed: int
    length: int
    valid: int
    schedule: Any


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
    device = denoiser.device
    kept = list(range(len(rows)))
    noises = [_Noise(row, channels) for row in rows]
    steps = len(rows[0].schedule) - 1
    levels = torch.stack([row.schedule for row in rows]).to(device)[:, :, None, None]
    ends = torch.tensor([row.valid for row in rows], device=device)
    valid = torch.arange(length, device=device) < ends[:, None]
    x, clean = _draw(noises, length, device), None
    take = SAMPLERS[sampler]
    for step in range(steps):
        staying = [place for place, row in enumerate(kept) if not is_cancelled(row)]
        if not staying:
            return {}
        if len(staying) < len(kept):
            index = torch.tensor(staying, device=device)
            kept = [kept[place] for place in staying]
            noises = [noises[place] for place in staying]
            x, levels, valid = x[index], levels[index], valid[index]
            clean = None if clean is None else clean[index]
            conditioning = conditioning.select(index)
        taken = take(
            partial(denoiser.velocity, valid=valid, conditioning=conditioning),
            x,
            Step(
                level=levels[:, step],
                following=levels[:, step + 1],
                previous=levels[:, step - 1] if step else None,
                clean=clean,
                is_last=step + 1 == steps,
                noise=partial(_draw, noises, length, device),
            ),
        )
        x, clean = taken.x, taken.clean
        _finish(device)
        for row in kept:
            on_step(row, (step + 1) / steps)
    return dict(zip(kept, x, strict=True))


def _draw(noises: Sequence[_Noise], length: int, device: Any) -> Any:
    drawn = torch.cat([noise.draw(length) for noise in noises])
    if device.type == "cuda":
        return drawn.pin_memory().to(device, non_blocking=True)
    return drawn.to(device)


def _finish(device: Any) -> None:
    """Wait for the step, so that progress is real and a cancelled row stops within one step."""
    if device.type == "cuda":
        torch.cuda.current_stream().synchronize()
