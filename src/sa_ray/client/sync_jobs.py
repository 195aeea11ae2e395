"""Jobs, as the synchronous client reads, follows, ends and downloads them."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path

from httpx_sse import EventSource

from sa_ray.client import calls
from sa_ray.client.calls import LONG_POLL_S, UPDATE_PERIOD_S
from sa_ray.client.connection import Connection
from sa_ray.client.events import RECONNECT_S, Feed, JobEvent
from sa_ray.client.retrying import CUT, interrupted_not_crowded, room_in_s
from sa_ray.client.wire import ApiError, file_paths, file_url
from sa_ray.contracts import FINAL_STATUSES, JobStatus, JobView, ListedJob


class JobCalls(Connection):
    """What ``Client`` can do with jobs that there are."""

    def job(self, job_id: str) -> JobView:
        """Read a job."""
        return self._do(calls.job(job_id))

    def jobs(
        self, status: JobStatus | None = None, *, prompts: bool = False
    ) -> Iterator[ListedJob]:
        """List the jobs, newest first, a page at a time; with their ``prompts``, or null for them.

        Jobs that are submitted meanwhile are not among them.
        """
        cursor = None
        while True:
            page = self._do(calls.job_page(status, cursor, prompts=prompts))
            yield from page.jobs
            if (cursor := page.next_cursor) is None:
                return

    def events(self, job_id: str, *, after: str | None = None) -> Iterator[JobEvent]:
        """Follow a job: yield it as it is, then each change, and end with the job.

        A stream that is cut goes on with what has happened since, as one ``after`` the ``id`` of an
        event does. Raises what the calls raise, not if the job fails.
        """
        feed = Feed(job_id, after)
        while not feed.ended:
            with closing(self._open(feed.call())) as response:
                if not feed.begins(response):
                    return
                with suppress(*CUT):
                    for told in EventSource(response).iter_sse():
                        if event := feed.take(told):
                            yield event
            if not feed.ended:
                time.sleep(RECONNECT_S)

    def cancel(self, job_id: str) -> None:
        """Cancel the job, or delete it if it has ended.

        A lost answer is an error, since a second request would delete what the first cancelled.
        So is 503: the job may be cancelled although the answer could not be made.
        """
        self._do(calls.cancellation(job_id))

    def wait(self, job_id: str, on_update: Callable[[JobView], object] | None = None) -> JobView:
        """Wait until the job has ended, calling ``on_update`` with every reading.

        The service may restart meanwhile. Raises what reading the job raises, not if the job fails.
        """
        return self._wait(job_id, UPDATE_PERIOD_S if on_update else LONG_POLL_S, on_update)

    def _wait(
        self, job_id: str, wait_s: float, on_update: Callable[[JobView], object] | None
    ) -> JobView:
        while True:
            try:
                job = self._do(calls.job(job_id, wait_s, interrupted_not_crowded))
            except ApiError as error:
                # Too many others wait: a plain read finds room.
                time.sleep(room_in_s(error, LONG_POLL_S))
                job = self.job(job_id)
            if on_update:
                on_update(job)
            if job.status in FINAL_STATUSES:
                return job

    def download(self, job: JobView, path: str | PathLike[str], index: int = 0) -> int:
        """Write a file of a job that has succeeded to ``path``; return its size in bytes.

        ``index``: which of ``job.results``. Raises ``ValueError`` if the job has no such file.
        """
        return self._download(file_url(job, index), Path(path))

    def download_all(self, job: JobView, path: str | PathLike[str]) -> list[Path]:
        """Write the files of a job, of several as ``name-1.wav`` and so on; return their paths."""
        paths = file_paths(job, Path(path))
        for index, each in enumerate(paths):
            self.download(job, each, index)
        return paths
