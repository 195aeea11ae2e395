"""Changes of jobs for those who watch them: a log of which jobs changed, and what a change shows.

A change is identified by what it shows, not by a counter. A watcher that comes back with the last
``event_id`` it saw, to any coordinator, hears at once if anything is different now.
"""

import asyncio
import uuid
from dataclasses import dataclass

from sa_ray.jobs.api import ChangedJobs, JobSnapshot

EXACT_PLACES = 20

LOGGED_JOBS = 10_000
"""Most jobs whose last change is remembered: some seconds of the busiest service."""


@dataclass(frozen=True, slots=True)
class JobChange:
    """A job as its watchers see it. ``event_id``: text without spaces that names what is shown."""

    event_id: str
    snapshot: JobSnapshot


def change_of(snapshot: JobSnapshot) -> JobChange:
    job = snapshot.job
    shown = (
        job.status,
        job.token,
        int(job.cancel_requested),
        coarse(snapshot.queue_position or 0),
        shown_progress(job.progress),
    )
    return JobChange(".".join(map(str, shown)), snapshot)


def shown_progress(progress: float) -> float:
    """Round the fraction ``progress`` to a thousandth, in thousandths."""
    return round(1000 * progress)


def coarse(position: int) -> int:
    """Round a queue position: exact to 20, then about 10% steps.

    Otherwise each step of a queue of a thousand jobs would wake every watcher.
    """
    if position <= EXACT_PLACES:
        return position
    step: int = 5 * 10 ** (len(str(position)) - 2)
    return position // step * step


class ChangeLog:
    """Which jobs changed lately, in order. For one event loop.

    A cursor is a place in one log. The log of a restarted process is another one, and so is one
    that has forgotten what followed the cursor: both answer that any job may have changed.
    """

    def __init__(self, capacity: int = LOGGED_JOBS) -> None:
        self._id = uuid.uuid4().hex
        self._capacity = capacity
        self._count = 0
        self._forgotten = 0
        self._changed_at: dict[str, int] = {}
        self._more = asyncio.Event()

    def note(self, job_id: str) -> None:
        """Note that something which is shown of the job has changed."""
        self._count += 1
        self._changed_at.pop(job_id, None)
        self._changed_at[job_id] = self._count
        if len(self._changed_at) > self._capacity:
            oldest = next(iter(self._changed_at))
            self._forgotten = self._changed_at.pop(oldest)
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def after(self, cursor: str | None, timeout_s: float) -> ChangedJobs:
        """Implement ``JobApi.changed``."""
        known = self._place(cursor)
        if known is None:
            return ChangedJobs(self._cursor(), None)
        if known == self._count:
            more = self._more
            try:
                async with asyncio.timeout(timeout_s):
                    await more.wait()
            except TimeoutError:
                pass
        return ChangedJobs(self._cursor(), self._since(known))

    def _since(self, known: int) -> tuple[str, ...]:
        ids = []
        for job_id, number in reversed(self._changed_at.items()):
            if number <= known:
                break
            ids.append(job_id)
        return tuple(reversed(ids))

    def _place(self, cursor: str | None) -> int | None:
        log, _, number = (cursor or "").partition(".")
        if log != self._id or int(number) < self._forgotten:
            return None
        return int(number)

    def _cursor(self) -> str:
        return f"{self._id}.{self._count}"
