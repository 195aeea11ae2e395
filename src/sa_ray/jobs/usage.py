"""Count usage in memory, and hand it over in batches."""

import asyncio
import contextvars
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sa_ray.contracts import FINAL_STATUSES, Job, UsageRow, VariantName
from sa_ray.errors import SaRayError

logger = logging.getLogger(__name__)

HAND_OVER_S = 2.0
"""Seconds between what is counted and what is handed over: what a process that dies loses."""

LAST_HAND_OVER_S = 3.0
"""Seconds that a process which ends waits for its last report to be taken."""

HandOver = Callable[[str, Sequence[UsageRow]], Awaitable[object]]
"""``hand_over(report_id, rows)``: may be called again with the same report, which counts once."""


def day_of(at: float) -> str:
    """Return the day of UTC of the Unix time ``at``."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


class UsageMeter:
    """Adds up usage, and hands it over a moment later. For one event loop.

    ``clock`` returns Unix seconds.
    """

    def __init__(
        self,
        hand_over: HandOver,
        clock: Callable[[], float] = time.time,
        period: float = HAND_OVER_S,
    ) -> None:
        self._hand_over = hand_over
        self._clock = clock
        self._period = period
        self._rows: dict[tuple[str, str, VariantName], UsageRow] = {}
        self._unsent: tuple[str, list[UsageRow]] | None = None
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, owner: str, variant: VariantName, at: float | None = None, **counts: Any) -> None:
        """Count ``counts``, fields of ``UsageCounts``, on the day of ``at``; None: now."""
        day = day_of(self._clock() if at is None else at)
        row = UsageRow(day=day, owner=owner, variant=variant, **counts)
        known = self._rows.get(row.place)
        self._rows[row.place] = row if known is None else known.plus(row)
        if self._task is None or self._task.done():
            # In a context of its own: that of a request would cancel it with the request.
            self._task = asyncio.get_running_loop().create_task(
                self._hand_over_later(), context=contextvars.Context()
            )

    def counted(self, owner: str, day: str) -> list[UsageRow]:
        """Return what is not handed over yet."""
        rows = [*self._rows.values(), *(self._unsent[1] if self._unsent else ())]
        return [row for row in rows if (row.owner, row.day) == (owner, day)]

    async def flush(self) -> None:
        """Hand over all that is counted. Raises what that raises; it is kept for the next time."""
        async with self._sending:
            while self._unsent or self._rows:
                if self._unsent is None:
                    self._unsent = uuid.uuid4().hex, sorted(self._rows.values(), key=_place)
                    self._rows = {}
                await self._hand_over(*self._unsent)
                self._unsent = None

    async def close(self) -> None:
        """Hand over what can be; the process is about to end."""
        if self._task:
            self._task.cancel()
        try:
            async with asyncio.timeout(LAST_HAND_OVER_S):
                await self.flush()
        except (SaRayError, TimeoutError) as error:
            logger.warning("usage of the last seconds is lost: %s", error)

    async def _hand_over_later(self) -> None:
        while self._unsent or self._rows:
            await asyncio.sleep(self._period)
            try:
                await self.flush()
            except SaRayError as error:
                logger.warning("usage could not be handed over yet: %s", error.message)


class JobUsage:
    """Counts what jobs come to, as the coordinator stores it."""

    def __init__(self, meter: UsageMeter) -> None:
        self._meter = meter

    def submitted(self, job: Job) -> None:
        self._count(job, job.created_at, jobs=1, accepted_seconds=_asked(job))

    def leased(self, job: Job) -> None:
        """Do nothing: what an attempt costs, its replica counts."""

    def changed(self, before: Job, after: Job) -> None:
        if before.status in FINAL_STATUSES or after.status not in FINAL_STATUSES:
            return
        if after.result is None:
            self._count(after, after.created_at, accepted_seconds=-_asked(after))
        else:
            clips = after.result.clips
            seconds = sum(clip.audio.duration for clip in clips)
            self._count(after, after.completed_at, clips=len(clips), audio_seconds=seconds)

    def _count(self, job: Job, at: float | None, **counts: float) -> None:
        self._meter.add(job.owner, job.request.model, at, **counts)


def _asked(job: Job) -> float:
    return job.request.n * job.request.duration


def _place(row: UsageRow) -> tuple[str, str, VariantName]:
    return row.place
