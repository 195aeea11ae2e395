"""Judge which workers are dead, and which leases nobody works on.

Silence is counted in looks and in renewals, not in seconds. So neither a step of the clock, nor a
judge that was itself held up, nor an outage of the store makes a living worker look dead.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

Lease = tuple[str, int]
"""Id of a job, and the token."""

UNCLAIMED_RENEWALS = 3
"""Renewals in a row, of a worker that waits for no lease, that leave out one it has: the answer
that gave it the lease was lost. One renewal may be on its way while the worker takes the lease."""


class Workers:
    """``patience``: looks in a row at which a worker must be silent to be taken for dead.

    For one event loop.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._silence: Counter[str] = Counter()
        self._heartbeats: Mapping[str, float] = {}
        self._calling: Counter[str] = Counter()
        self._left_out: dict[str, Counter[Lease]] = {}

    @contextmanager
    def calling(self, worker: str) -> Iterator[None]:
        """Note a call of the worker, which shows that it lives whatever the store does about it."""
        self._calling[worker] += 1
        try:
            yield
        finally:
            self._calling[worker] -= 1
            if not self._calling[worker]:
                del self._calling[worker]
            self._silence[worker] = 0

    def look(self, heartbeats: Mapping[str, float]) -> list[str]:
        """Take in the stored heartbeats; return the workers that are dead by now.

        Another coordinator on the same store may hear a worker that never calls this one.
        """
        for worker, heartbeat in heartbeats.items():
            if self._heartbeats.get(worker) == heartbeat and not self._calling[worker]:
                self._silence[worker] += 1
            else:
                self._silence[worker] = 0
        for gone in self._heartbeats.keys() - heartbeats.keys():
            self._silence.pop(gone, None)
            self._left_out.pop(gone, None)
        self._heartbeats = dict(heartbeats)
        return [worker for worker in heartbeats if self.is_dead(worker)]

    def is_dead(self, worker: str) -> bool:
        return self._silence[worker] >= self._patience and not self._calling[worker]

    def unclaimed(
        self, worker: str, held: Collection[Lease], reported: Collection[Lease]
    ) -> list[Lease]:
        """Return the leases in ``held`` that the worker's last ``UNCLAIMED_RENEWALS`` left out."""
        before = self._left_out.get(worker, Counter())
        left_out = Counter({lease: before[lease] + 1 for lease in set(held) - set(reported)})
        self._left_out[worker] = left_out
        return [lease for lease, times in left_out.items() if times >= UNCLAIMED_RENEWALS]
