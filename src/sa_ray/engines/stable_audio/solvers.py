"""Samplers: one step from a noise level to the next, as the package takes it.

The package's Runge-Kutta sampler is left out. The package's ``generate()`` hands it a schedule for
each row, and it then takes no step at all and returns noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from sa_ray.contracts import Sampler
from sa_ray.scheduling.batch_rule import DEFAULT_SAMPLER

Velocity = Callable[[Any, Any], Any]
"""``velocity(x, level)``: noise minus clean latents at ``level``, shaped as ``x``."""

SMALLEST: Final = 1e-10
"""Lower bound that keeps logarithms and quotients finite at the ends of the schedule."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, from noise level ``level`` down to ``following``; float32 ``[rows, 1, 1]``.

    ``previous``: the level of the step before, and ``clean`` its guess of the clean latents; None
    at the first step. ``noise``: draws fresh noise, shaped as the latents.
    """

    level: Any
    following: Any
    previous: Any
    clean: Any
    is_last: bool
    noise: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """Result of a step.

    ``x``: float32 ``[rows, channels, length]``, the latents after it. ``clean``: its guess of the
    clean latents, for samplers whose next step uses it; else None.
    """

    x: Any
    clean: Any = None


def _pingpong(velocity: Velocity, x: Any, step: Step) -> Taken:
    clean = x - step.level * velocity(x, step.level)
    if step.is_last:
        return Taken(clean)
    return Taken((1 - step.following) * clean + step.following * step.noise())


def _euler(velocity: Velocity, x: Any, step: Step) -> Taken:
    return Taken(x + (step.following - step.level) * velocity(x, step.level))


def _dpmpp(velocity: Velocity, x: Any, step: Step) -> Taken:
    """DPM-Solver++(2M), arXiv 2211.01095, with the coefficients of rectified flow."""
    level, following = step.level, step.following
    clean = x - level * velocity(x, level)
    target = clean
    if step.clean is not None and not step.is_last:
        last = _log_snr(level) - _log_snr(step.previous)
        half = (_log_snr(following) - _log_snr(level)) / (2 * last)
        target = (1 + half) * clean - half * step.clean
    rise = (following - level) / ((1 - following).clamp(min=SMALLEST) * level.clamp(min=SMALLEST))
    kept = following / level.clamp(min=SMALLEST)
    return Taken(kept * x - (1 - following) * rise * target, clean)


def _log_snr(level: Any) -> Any:
    return torch.log((1 - level).clamp(min=SMALLEST) / level.clamp(min=SMALLEST))


SAMPLERS: Final[dict[Sampler, Callable[[Velocity, Any, Step], Taken]]] = {
    "pingpong": _pingpong,
    "euler": _euler,
    "dpmpp": _dpmpp,
}

DEFAULT_SAMPLERS: Final[dict[str, Sampler]] = {
    "rf_denoiser": DEFAULT_SAMPLER,
    "rectified_flow": "euler",
}
"""By the model's objective: that of distilled models, and that of the base ones, which take some 50
steps with guidance."""
