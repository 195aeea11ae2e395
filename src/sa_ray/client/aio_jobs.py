"""Jobs, as the asynchronous client reads, follows, ends and downloads them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from inspect import isawaitable
from os import PathLike
from pathlib import Path

import anyio
from httpx_sse import EventSource

from sa_ray.client import calls
from sa_ray.client.calls import LONG_POLL_S, UPDATE_PERIOD_S
from sa_ray.client.connection import AsyncConnection
from sa_ray.client.events import RECONNECT_S, Feed, JobEvent
from sa_ray.client.retrying import CUT, interrupted_not_crowded, room_in_s
from sa_ray.client.wire import ApiError, file_paths, file_url
from sa_ray.contracts import FINAL_STATUSES, JobStatus, JobView, ListedJob


class AsyncJobCalls(AsyncConnection):
    """What ``AsyncClient`` can do with jobs that there are."""

    async def job(self, job_id: str) -> JobView:
        """Read a job."""
        return await self._do(calls.job(job_id))

    async def jobs(
        self, status: JobStatus | None = None, *, prompts: bool = False
    ) -> AsyncGenerator[ListedJob, None]:
        """List the jobs, as ``Client.jobs``."""
        cursor = None
        while True:
            page = await self._do(calls.job_page(status, cursor, prompts=prompts))
            for job in page.jobs:
                yield job
            if (cursor := page.next_cursor) is None:
                return

    async def events(
        self, job_id: str, *, after: str | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """Follow a job, as ``Client.events``.

        Wrap it in ``contextlib.aclosing`` to leave the loop before the job has ended.
        """
        feed = Feed(job_id, after)
        while not feed.ended:
            async with aclosing(await self._open(feed.call())) as response:
                if not feed.begins(response):
                    return
                with suppress(*CUT):
                    async with aclosing(EventSource(response).aiter_sse()) as stream:
                        async for told in stream:
                            if event := feed.take(told):
                                yield event
            if not feed.ended:
                await anyio.sleep(RECONNECT_S)

    async def cancel(self, job_id: str) -> None:
        """Cancel the job, or delete it if it has ended, as ``Client.cancel``."""
        await self._do(calls.cancellation(job_id))

    async def wait(
        self, job_id: str, on_update: Callable[[JobView], object] | None = None
    ) -> JobView:
        """Wait until the job has ended, as ``Client.wait``; what ``on_update`` returns is awaited.

        If this is cancelled, the job goes on: ``cancel`` ends it.
        """
        wait_s = UPDATE_PERIOD_S if on_update else LONG_POLL_S
        while True:
            try:
                job = await self._do(calls.job(job_id, wait_s, interrupted_not_crowded))
            except ApiError as error:
                await anyio.sleep(room_in_s(error, LONG_POLL_S))
                job = await self.job(job_id)
            if on_update and isawaitable(heard := on_update(job)):
                await heard
            if job.status in FINAL_STATUSES:
                return job

    async def download(self, job: JobView, path: str | PathLike[str], index: int = 0) -> int:
        """Write a file of a job to ``path``, as ``Client.download``; return its size in bytes."""
        return await self._download(file_url(job, index), Path(path))

    async def download_all(self, job: JobView, path: str | PathLike[str]) -> list[Path]:
        """Write the files of a job, as ``Client.download_all``; return their paths."""
        paths = file_paths(job, Path(path))
        for index, each in enumerate(paths):
            await self.download(job, each, index)
        return paths
