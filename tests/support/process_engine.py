"""An engine without torch for a process of its own: it does what the prompt says."""

import os
import signal
import threading
from collections.abc import Sequence

import numpy as np

from sa_ray.contracts import SAMPLE_RATE, EngineName, ResolvedRequest, VariantName
from sa_ray.engines import Audio, BatchOutcome, Cancelled, DeviceLostError, Generated
from sa_ray.engines.port import IsCancelled, OnStep
from sa_ray.errors import ConfigurationError, GenerationError
from sa_ray.scheduling.costs import Calibration, Cost

LOADER = f"{__name__}:load"
CALIBRATION = Calibration(
    cost=Cost(batch=0.1, row=0.2, second=0.3, sampling=0.5, guidance=2), max_rows=3, max_seconds=7
)


class StrangeError(Exception):
    """One that the other process would have to import."""


class UnpicklableError(GenerationError):
    """One that takes other arguments than those that it keeps."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


class ToldEngine:
    """Implements ``Engine``. Each clip is its seed, in all samples; see ``_act`` for prompts."""

    name: EngineName = "stable-audio-3"
    device = "cuda"
    sample_rate = SAMPLE_RATE
    slowdown: str | None = None
    fault = None
    calibration = CALIBRATION

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        outcomes: list[BatchOutcome] = []
        for row, request in enumerate(batch):
            source = sources[row] if sources else None
            outcomes.append(self._act(row, request, on_step, is_cancelled, source))
        return outcomes

    def close(self) -> None:
        """Do nothing."""

    def _act(
        self,
        row: int,
        request: ResolvedRequest,
        on_step: OnStep,
        is_cancelled: IsCancelled,
        source: Audio | None,
    ) -> BatchOutcome:
        match request.prompt.split(maxsplit=1):
            case ["endless"]:
                on_step(row, 0.5)
                while not is_cancelled(row):
                    threading.Event().wait(0.001)
                    on_step(row, 0.5)
                return Cancelled()
            case ["failing", text]:
                return GenerationError(text, param="duration")
            case ["unpicklable"]:
                return UnpicklableError("one", "other")
            case ["raising", text]:
                raise {"KeyError": KeyError, "Strange": StrangeError, "lost": DeviceLostError}[
                    text
                ](f"of {text}")
            case ["killed"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["slow", text]:
                self.slowdown = text
            case ["writing"] if source is not None:
                source[:] = 1
            case ["samples", text]:
                return Generated(np.full((2, 9), text, object))
        on_step(row, 1.0)
        frames = round(request.duration * SAMPLE_RATE)
        return Generated(np.full((2, frames), request.seed, np.float32))


def load(variant: VariantName, then: str = "") -> ToldEngine:
    """Return an engine, or fail as ``then`` says."""
    match then:
        case "refuse":
            raise ConfigurationError(f"{variant} is not there.", param="weights")
        case "raise":
            raise StrangeError("cannot load")
        case "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
    return ToldEngine()
