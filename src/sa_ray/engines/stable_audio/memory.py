"""Run batches that may be too large for the GPU's memory: without graphs, then by halves."""

import logging
from collections.abc import Callable, Sequence

import torch

from sa_ray.engines.stable_audio.device_faults import is_out_of_memory
from sa_ray.engines.stable_audio.geometry import halves
from sa_ray.engines.stable_audio.graphs import Graphs

_log = logging.getLogger(__name__)

Attempt = Callable[[Sequence[int]], None]
"""``attempt(rows)``: run these rows of a batch, from their first step."""


class Fitting:
    """``forget``: drops what the last batch holds beside ``graphs``."""

    def __init__(self, graphs: Graphs, forget: Callable[[], None]) -> None:
        self._graphs = graphs
        self._forget = forget

    def run(self, rows: Sequence[int], attempt: Attempt) -> list[int]:
        """Attempt ``rows``, all or in parts; return those that do not even fit alone."""
        if self._fits(rows, attempt):
            return []
        # Graphs hold memory that this batch may need: once more without them, then by halves.
        held = self._graphs.clear()
        with self._graphs.paused():
            if held and self._fits(rows, attempt):
                return []
            return self._halve(rows, attempt)

    def _halve(self, rows: Sequence[int], attempt: Attempt) -> list[int]:
        if len(rows) == 1:
            return list(rows)
        return [
            row
            for half in halves(rows)
            if not self._fits(half, attempt)
            for row in self._halve(half, attempt)
        ]

    def _fits(self, rows: Sequence[int], attempt: Attempt) -> bool:
        try:
            attempt(rows)
            return True
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            _log.warning("out of GPU memory with %d rows: %s", len(rows), error)
        # Outside the handler: its traceback holds the tensors that must be freed first.
        self._forget()
        torch.cuda.empty_cache()
        return False
