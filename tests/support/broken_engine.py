"""A variant whose engine does badly when it is told to, to be deployed in place of the real one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sa_ray.contracts import ResolvedRequest
from sa_ray.engines import BatchOutcome, DeviceLostError, Generated
from sa_ray.serving.variant.deployment import Variant
from tests.support.engine_in_process import EngineInProcess

SILENT, NOT_NUMBERS = "a silent clip", "a broken clip"
"""Prompts of which clips with even seeds are so."""

SLOW = "CUDA graphs are off"


def breaking(marker: Path) -> type[Variant]:
    """Return a variant of which the next replica to run a batch breaks once ``marker`` is gone.

    That replica makes the marker again, and fails every batch from then on: as one that has lost
    its device if the marker's folder has a file ``device``, as one with a bug otherwise. Others
    make flawed clips of the prompts above. Beside a file ``slow``, the engine of ``small-sfx`` says
    it is slow.
    """

    class Breaking(EngineInProcess):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            engine: Any = self._engine
            if self._variant == "small-sfx" and (marker.parent / "slow").exists():
                type(engine).slowdown = SLOW
            render = engine.generate
            fault: Exception | None = None

            def generate(batch: Sequence[ResolvedRequest], *told: Any) -> list[BatchOutcome]:
                nonlocal fault
                if fault is None and not marker.exists():
                    marker.touch()
                    fault = RuntimeError("a bug that lasts")
                    if (marker.parent / "device").exists():
                        fault = DeviceLostError("CUDA error: an illegal memory access")
                if fault is not None:
                    raise fault
                return [_flawed(*made) for made in zip(batch, render(batch, *told), strict=True)]

            engine.generate = generate

    return Breaking


def _flawed(request: ResolvedRequest, outcome: BatchOutcome) -> BatchOutcome:
    level = {SILENT: 0.0, NOT_NUMBERS: np.nan}.get(request.prompt)
    if level is None or request.seed % 2 or not isinstance(outcome, Generated):
        return outcome
    return Generated(np.full_like(outcome.samples, level))
