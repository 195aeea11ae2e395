"""How far a batch is, and who has cancelled, in memory that both processes see."""

import os
from typing import IO, Final

import numpy as np

from sa_ray.engines.port import IsCancelled, OnStep
from sa_ray.engines.process.shared_memory import mapped, nameless

MAX_ROWS: Final = 2048
"""Largest batch, far beyond what any GPU has memory for: its state takes 32 KiB."""


class BatchState:
    """One side writes the progress and reads who has cancelled, the other does the opposite.

    Nobody is woken by it: a step costs the engine the storing of a number.
    """

    def __init__(self, file: int) -> None:
        """Take over the descriptor ``file``."""
        numbers = np.frombuffer(mapped(file), np.float64)
        self._progress, self._cancelled = numbers.reshape(2, MAX_ROWS)
        self._told: list[float] = []

    @classmethod
    def created(cls) -> tuple["BatchState", IO[bytes]]:
        """Return a state, and its file, for the other side."""
        file = nameless(2 * MAX_ROWS * np.float64().nbytes)
        return cls(os.dup(file.fileno())), file

    def begin(self, rows: int) -> None:
        """Have it be that of a batch of ``rows`` rows. Raises ``ValueError`` above ``MAX_ROWS``."""
        if rows > MAX_ROWS:
            raise ValueError(f"a batch of {rows} rows is larger than {MAX_ROWS}")
        self._told = [0.0] * rows
        self._progress[:rows] = self._cancelled[:rows] = 0

    def renew(self, on_step: OnStep, is_cancelled: IsCancelled) -> None:
        """Take in who has cancelled by now, and tell the progress that was not told yet."""
        before, self._told = self._told, self._progress[: len(self._told)].tolist()
        for row, fraction in enumerate(self._told):
            if not self._cancelled[row] and is_cancelled(row):
                self._cancelled[row] = 1
            if fraction != before[row]:
                on_step(row, fraction)

    def note_progress(self, row: int, fraction: float) -> None:
        self._progress[row] = fraction

    def is_cancelled(self, row: int) -> bool:
        return bool(self._cancelled[row])
