"""Delete the audio of clients that has had its time, unless a job is yet to be made from it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sa_ray.jobs.sources import sources_in_use
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.ray_errors import translate

logger = logging.getLogger(__name__)

MAX_PERIOD_S = 300.0
MIN_PERIOD_S = 1.0

TIMEOUT_S = 600.0
"""Timeout of listing and of deleting: there may be any number of them."""


class UploadSweep:
    """A loop for a dispatcher to run; several may at once. ``ttl_s``: what an upload has."""

    def __init__(
        self,
        jobs: JobsClient,
        uploader: UploaderClient,
        ttl_s: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._jobs = jobs
        self._uploader = uploader.within(TIMEOUT_S)
        self._period_s = min(max(ttl_s / 4, MIN_PERIOD_S), MAX_PERIOD_S)
        self._sleep = sleep

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self._sleep(self._period_s)
            try:
                await self._sweep()
            except Exception as error:  # noqa: BLE001 - the next round finds the same
                logger.warning("sweeping uploads failed: %s", translate(error).message)

    async def _sweep(self) -> None:
        if due := await self._uploader.due_inputs():
            # Jobs last: one that names an upload was submitted before it expired.
            in_use = await sources_in_use(self._jobs)
            await self._uploader.sweep_inputs(due, set(in_use))
            logger.info("%d uploads have reached their age", len(due))
