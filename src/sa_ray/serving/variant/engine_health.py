"""Health of a replica's engine, by how its batches end."""

from typing import Final

from sa_ray.engines import DeviceLostError, Engine

MAX_FAILED_BATCHES: Final = 3
"""Whole batches that may fail in a row. More than one, since a request may be what fails them: it
is tried on three replicas at most."""


class EngineHealth:
    """Counts batches that failed as a whole, and asks ``engine``. A row that failed alone does not
    count."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.failed_in_a_row = 0
        self._device_lost = False

    @property
    def fault(self) -> str | None:
        """Reason for which only another process may help; None: none."""
        if fault := self._engine.fault:
            return fault
        if self._device_lost:
            return "the device of this process is lost"
        if self.failed_in_a_row >= MAX_FAILED_BATCHES:
            return f"{self.failed_in_a_row} whole batches failed in a row"
        return None

    def succeeded(self) -> None:
        self.failed_in_a_row = 0

    def failed(self, error: Exception) -> None:
        """A whole batch has met ``error``."""
        self.failed_in_a_row += 1
        self._device_lost = self._device_lost or isinstance(error, DeviceLostError)
