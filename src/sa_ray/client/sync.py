"""Synchronous HTTP client of the service."""

import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx

from sa_ray.client.connection import Connection, timeout
from sa_ray.client.retrying import (
    attempts,
    interrupted,
    interrupted_not_crowded,
    refused,
    turned_away,
)
from sa_ray.client.wire import (
    ApiError,
    Clip,
    clips_in,
    job_body,
    outcomes_in,
    send_file,
)
from sa_ray.contracts import (
    FINAL_STATUSES,
    GenerationRequest,
    Health,
    HealthStatus,
    JobAccepted,
    JobPage,
    JobStatus,
    JobView,
    ListedJob,
    LoraList,
    ModelList,
    UploadView,
)

LONG_POLL_S = 20.0
"""How long a read of a job may wait for its end: shorter than proxies bear silence."""

UPDATE_PERIOD_S = 0.5
"""The same, where somebody watches the progress."""


class ClipWarning(UserWarning):
    """The service found the clip silent or constant; of a job, ``JobView.warning`` says so."""


class Client(Connection):
    """Client of one service at ``base_url``.

    Calls survive what passes: 429, 503, lost connections, and restarts of the service. They are
    tried again for up to ``retry_s`` seconds, with pauses as ``Retry-After`` says or else growing
    ones; ``generate`` and ``cancel`` only if the service refused them. ``timeout_s`` bounds each
    silence of a generation or download, seconds. ``api_key`` is that of a service with keys;
    default: the environment variable ``STABLE_AUDIO_API_KEY``.

    Raises ``ApiError`` for an error answer and ``httpx.TransportError`` if there is no answer. Both
    can be pickled.
    """

    def health(self) -> HealthStatus:
        """Ask how the service fares: a ``Health``, with the details, where it tells them."""
        told = self._call("GET", "/health").json()
        return (Health if "version" in told else HealthStatus).model_validate(told)

    def models(self) -> ModelList:
        """Ask which models there are, and how each fares."""
        return ModelList.model_validate(self._call("GET", "/v1/models").json())

    def loras(self, model: str | None = None) -> LoraList:
        """Ask which adapters there are, of all models or of one, by the name of its variant."""
        params = {"model": model} if model else None
        return LoraList.model_validate(self._call("GET", "/v1/loras", params=params).json())

    def generate(self, request: GenerationRequest) -> bytes:
        """Generate one clip and return its encoded bytes; waits until it is done.

        A connection that is lost meanwhile is an error, since a second request could do the same
        work again; a job does not have this weakness. Warns with ``ClipWarning`` of a clip without
        sound. Raises ``ValueError`` for a request of several: ``generate_all`` returns those.
        """
        if request.n > 1:
            raise ValueError(f"the request asks for {request.n} clips; generate_all returns them")
        answer = self._generate(request)
        if warning := answer.headers.get("X-Warning"):
            warnings.warn(warning, ClipWarning, stacklevel=2)
        return answer.content

    def upload(self, audio: Path | bytes) -> UploadView:
        """Send a file of audio, so that requests can name it by the ``id`` of the answer.

        However often it has to be sent, it is stored once.
        """

        send = partial(send_file, self._http, audio, self._timeout)
        return UploadView.model_validate(attempts(self._retry_s, interrupted)(send).json())

    def generate_all(self, request: GenerationRequest) -> list[Clip]:
        """Generate the ``n`` clips of ``request`` as ``generate`` does; each has its warning."""
        return clips_in(self._generate(request))

    def _generate(self, request: GenerationRequest) -> httpx.Response:
        return self._call(
            "POST",
            "/v1/audio/generations",
            again=refused,
            json=request.model_dump(exclude_unset=True),
            timeout=self._timeout,
        )

    def submit(
        self,
        request: GenerationRequest,
        *,
        idempotency_key: str | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | Sequence[str] | None = None,
    ) -> JobAccepted:
        """Submit a job. However often it has to be tried, one job comes of it.

        ``idempotency_key``: one of the caller's own (1 to 255 characters), which finds the same job
        again in a later call too. ``webhook_url`` is called once the job has ended, signed by
        ``webhook_secret`` (one, or the new and the old one) or by the operator's; both may be
        fields of a ``JobRequest`` instead.
        """
        response = self._call(
            "POST",
            "/jobs",
            json=job_body(request, webhook_url, webhook_secret),
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        )
        return JobAccepted.model_validate(response.json())

    def submit_batch(
        self, requests: Sequence[GenerationRequest], *, idempotency_key: str | None = None
    ) -> list[JobAccepted | ApiError]:
        """Submit up to 1,000 jobs; return for each, in order, the job or why there is none.

        However often it has to be tried, one job comes of each. Those refused for now (``status``
        429 or 503) make one when the batch is sent again with its ``idempotency_key``.
        """
        response = self._call(
            "POST",
            "/jobs/batch",
            json={"requests": [job_body(one, None, None) for one in requests]},
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
            timeout=self._timeout,
        )
        return outcomes_in(response)

    def job(self, job_id: str) -> JobView:
        return self._job(job_id, wait_s=0)

    def jobs(
        self, status: JobStatus | None = None, *, prompts: bool = False
    ) -> Iterator[ListedJob]:
        """List the jobs, newest first, a page at a time; with their ``prompts``, or null for them.

        Jobs that are submitted meanwhile are not among them.
        """
        asked = {"status": status, "include": "prompts" if prompts else None}
        params = {name: value for name, value in asked.items() if value}
        while True:
            page = JobPage.model_validate(self._call("GET", "/jobs", params=params).json())
            yield from page.jobs
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def cancel(self, job_id: str) -> None:
        """Cancel the job, or delete it if it has ended.

        A lost answer is an error, since a second request would delete what the first cancelled.
        So is 503: the job may be cancelled although the answer could not be made.
        """
        self._call("DELETE", f"/jobs/{job_id}", again=turned_away)

    def wait(self, job_id: str, on_update: Callable[[JobView], object] | None = None) -> JobView:
        """Wait until the job has ended, calling ``on_update`` with every reading.

        The service may restart meanwhile. Raises what reading the job raises, not if the job fails.
        """
        wait_s = UPDATE_PERIOD_S if on_update else LONG_POLL_S
        while True:
            try:
                job = self._job(job_id, wait_s, again=interrupted_not_crowded)
            except ApiError as error:
                if error.status != httpx.codes.TOO_MANY_REQUESTS:
                    raise
                # Too many others wait: a plain read finds room.
                told = error.retry_after_s
                time.sleep(LONG_POLL_S if told is None else min(max(told, 1), LONG_POLL_S))
                job = self.job(job_id)
            if on_update:
                on_update(job)
            if job.status in FINAL_STATUSES:
                return job

    def download(self, job: JobView, path: Path, index: int = 0) -> int:
        """Write a file of a job that has succeeded to ``path``; return its size in bytes.

        ``index``: which of ``job.results``. Raises ``ValueError`` if the job has no such file.
        """
        url = job.download_url if index == 0 else None
        if 0 < index < len(job.results):
            url = job.results[index].download_url
        if url is None:
            raise ValueError(f"job {job.id} is {job.status} and has no audio {index}")
        return attempts(self._retry_s, interrupted)(lambda: self._fetch(url, path))

    def download_all(self, job: JobView, path: Path) -> list[Path]:
        """Write the files of a job, of several as ``name-1.wav`` and so on; return their paths."""
        if len(job.results) < 2:
            self.download(job, path)
            return [path]
        paths = [path.with_stem(f"{path.stem}-{file.index + 1}") for file in job.results]
        for index, each in enumerate(paths):
            self.download(job, each, index)
        return paths

    def _job(
        self, job_id: str, wait_s: float, again: Callable[[BaseException], bool] = interrupted
    ) -> JobView:
        response = self._call(
            "GET",
            f"/jobs/{job_id}",
            again=again,
            params={"wait": wait_s} if wait_s else None,
            timeout=timeout(wait_s + self._answer_s),
        )
        return JobView.model_validate(response.json())
