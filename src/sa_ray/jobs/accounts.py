"""The accounts of usage: what processes report goes into the store, and is read from there."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from sa_ray.contracts import UsageRow
from sa_ray.jobs.store_threads import StoreThreads
from sa_ray.jobs.stores.port import JobStore
from sa_ray.jobs.usage import JobUsage, UsageMeter

KNOWN_REPORTS = 10_000
"""Reports whose repetition is noticed: those of some minutes of a hundred processes."""


class Accounts:
    """Adds reports to ``store``. For one event loop. ``clock`` returns Unix seconds."""

    def __init__(self, store: JobStore, threads: StoreThreads, clock: Callable[[], float]) -> None:
        self._store = store
        self._threads = threads
        self._added: OrderedDict[str, None] = OrderedDict()
        self._meter = UsageMeter(self.add, clock)
        self.jobs = JobUsage(self._meter)

    async def add(self, report_id: str, rows: Sequence[UsageRow]) -> None:
        """Add ``rows``, unless a report with this id has been added lately."""
        if report_id in self._added:
            return
        await self._threads.write(self._store.add_usage, rows)
        self._added[report_id] = None
        if len(self._added) > KNOWN_REPORTS:
            self._added.popitem(last=False)

    async def read(self, first: str, last: str, owner: str | None) -> list[UsageRow]:
        """Return the rows of the days from ``first`` to ``last``, of ``owner`` or of all."""
        await self._meter.flush()
        return await self._threads.list(self._store.usage, first, last, owner)

    async def accepted_seconds(self, owner: str, day: str) -> float:
        """Return those of the stored reports, and of all that this process has counted itself."""
        # First, so that what is handed over meanwhile counts twice rather than not at all.
        own = self._meter.counted(owner, day)
        stored = await self._threads.read(self._store.usage, day, day, owner)
        return sum(row.accepted_seconds for row in (*own, *stored))

    async def close(self) -> None:
        await self._meter.close()
