"""Lease queued jobs as replicas have room, renew what is held, hand back at the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any

from sa_ray.contracts import Job, VariantName
from sa_ray.serving.actors import JobsClient
from sa_ray.serving.dispatcher.attempt import Attempt
from sa_ray.serving.ray_errors import translate

logger = logging.getLogger(__name__)

RENEW_PERIOD_S = 1.0
"""Period of renewals: progress is this fresh, and a cancel takes this long to arrive."""

RENEW_TIMEOUT_S = 3.0
"""Several renewals have to fit into a lease of 10 s."""

WORK_WAIT_S = 20.0
LOST_RACE_PAUSE_S = 0.05
"""Pause after a job that was due went to another dispatcher, or ended."""

MAX_PENDING_UPLOADS = 64
"""Most clips that wait for the object store; at this many no more jobs are started."""

HAND_BACK_S = 5.0
"""Time for the jobs of a stopping dispatcher to be handed back."""

Begin = Callable[[Job, Callable[[], object]], Attempt]
"""``begin(job, on_change)``: an attempt at ``job`` that has not started yet."""


class Leases:
    """The jobs that ``worker`` holds. Loses none if it dies: they are taken back.

    ``capacity``: how many clips of each variant it may hold, until ``resize`` says otherwise. Jobs
    that turn out to be larger than those leased before them go over it.
    """

    def __init__(
        self,
        worker: str,
        capacity: Mapping[VariantName, int],
        jobs: JobsClient,
        begin: Begin,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._worker = worker
        self._capacity = dict(capacity)
        self._jobs = jobs
        self._begin = begin
        self._sleep = sleep
        self._held: dict[tuple[str, int], Attempt] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._paused: frozenset[VariantName] = frozenset()
        self._being_leased: set[asyncio.Task[int]] = set()
        self._changed = asyncio.Event()
        self._clips = dict.fromkeys(capacity, 1)
        """Of the largest job of each variant's last lease: more like it may follow."""

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Coroutines that never end: one a variant, and one that renews."""
        return [*(self._lease_forever(name) for name in self._capacity), self._renew_forever()]

    def resize(self, capacity: Mapping[VariantName, int]) -> None:
        """Hold as many clips as ``capacity`` says from now on; jobs held already go on."""
        self._capacity.update(capacity)
        self._changed.set()

    def pause(self, variants: frozenset[VariantName]) -> None:
        """Lease for all variants but these, and hand back those of their jobs that have not begun:
        they wait in the queue, where they can be cancelled and outlive this application."""
        self._paused = variants
        for attempt in self._not_begun(variants):
            attempt.stop()
        self._changed.set()

    def hand_back_late(self, variants: Collection[VariantName], now: float) -> None:
        """Hand back jobs of ``variants`` that should have begun by ``now`` (Unix seconds) and have
        not: they have waited their time, here or in the queue."""
        for attempt in self._not_begun(variants):
            if attempt.job.start_by is not None and attempt.job.start_by <= now:
                attempt.stop()

    def _not_begun(self, variants: Collection[VariantName]) -> list[Attempt]:
        return [
            attempt
            for attempt in self._held.values()
            if attempt.job.request.model in variants and not attempt.progress
        ]

    async def hand_back(self) -> None:
        """Stop everything, in about ``HAND_BACK_S`` seconds; to be called after the loops."""
        # A lease taken in the moment of stopping has to be handed back too.
        await _wait_for(self._being_leased)
        for attempt in list(self._held.values()):
            attempt.stop()
        await _wait_for(self._tasks.values())

    def room(self, variant: VariantName) -> int:
        """Return the number of clips of ``variant`` that it may lease now; 0 or less: none."""
        if variant in self._paused:
            return 0
        generating = uploading = 0
        for attempt in self._held.values():
            clips = attempt.job.request.n
            if attempt.uploading:
                uploading += clips
            elif attempt.job.request.model == variant:
                generating += clips
        return 0 if uploading >= MAX_PENDING_UPLOADS else self._capacity[variant] - generating

    async def _lease_forever(self, variant: VariantName) -> None:
        while True:
            while self.room(variant) <= 0:
                self._changed.clear()
                await self._changed.wait()
            try:
                await self._jobs.within(2 * WORK_WAIT_S).wait_for_work(variant, WORK_WAIT_S)
                leasing = asyncio.create_task(self._lease(variant))
                self._being_leased.add(leasing)
                leasing.add_done_callback(self._being_leased.discard)
                if not await asyncio.shield(leasing):
                    await self._sleep(LOST_RACE_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - the store may be away; jobs wait in it
                logger.warning("leasing for %s failed: %s", variant, translate(error))
                await self._sleep(RENEW_PERIOD_S)

    async def _lease(self, variant: VariantName) -> int:
        if (room := self.room(variant)) <= 0:  # it has shrunk meanwhile
            return 0
        jobs = await self._jobs.lease(variant, self._worker, max(1, room // self._clips[variant]))
        if jobs:
            self._clips[variant] = max(job.request.n for job in jobs)
        for job in jobs:
            key = job.id, job.token
            attempt = self._held[key] = self._begin(job, self._changed.set)
            self._tasks[key] = attempt.start()
            self._tasks[key].add_done_callback(partial(self._forget, key))
        return len(jobs)

    def _forget(self, key: tuple[str, int], _task: asyncio.Task[None]) -> None:
        del self._held[key], self._tasks[key]
        self._changed.set()

    async def _renew_forever(self) -> None:
        while True:
            await self._sleep(RENEW_PERIOD_S)
            # Also while nothing is held: a lease whose answer was lost is found by its absence.
            held = list(self._held.values())
            reports = [attempt.report() for attempt in held]
            leasing = bool(self._being_leased)
            try:
                verdicts = await self._jobs.within(RENEW_TIMEOUT_S).renew(
                    self._worker, reports, leasing=leasing
                )
            except Exception as error:  # noqa: BLE001 - the next round tries again
                logger.warning("renewing leases failed: %s", translate(error))
                continue
            for attempt, verdict in zip(held, verdicts, strict=True):
                attempt.heed(verdict)


async def _wait_for(tasks: Collection[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(list(tasks), timeout=HAND_BACK_S)
