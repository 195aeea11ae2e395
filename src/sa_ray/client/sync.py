"""Synchronous HTTP client of the service."""

import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sa_ray.client.retrying import (
    attempts,
    interrupted,
    interrupted_not_crowded,
    refused,
    turned_away,
)
from sa_ray.client.wire import ApiError, job_body, raise_for_error, send_file
from sa_ray.contracts import (
    FINAL_STATUSES,
    GenerationRequest,
    Health,
    HealthStatus,
    JobAccepted,
    JobView,
    ModelList,
    UploadView,
)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts to which no proxy of the environment leads."""

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""Longest silence of a call that is answered from memory or a store."""

LONG_POLL_S = 20.0
"""How long a read of a job may wait for its end: shorter than proxies bear silence."""

UPDATE_PERIOD_S = 0.5
"""The same, where somebody watches the progress."""

CHUNK_BYTES = 1 << 20


class ClipWarning(UserWarning):
    """The service found the clip silent or constant; of a job, ``JobView.warning`` says so."""


class Client:
    """Client of one service at ``base_url``.

    Calls survive what passes: 429, 503, lost connections, and restarts of the service. They are
    tried again for up to ``retry_s`` seconds, with pauses as ``Retry-After`` says or else growing
    ones; ``generate`` and ``cancel`` only if the service refused them. ``timeout_s`` bounds each
    silence of a generation or download, seconds.

    Raises ``ApiError`` for an error answer and ``httpx.TransportError`` if there is no answer. Both
    can be pickled.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        timeout_s: float = 600,
        retry_s: float = 120,
    ) -> None:
        self._host = httpx.URL(base_url).host
        self._timeout = _timeout(timeout_s)
        self._answer_s = min(timeout_s, ANSWER_TIMEOUT_S)
        self._retry_s = retry_s
        self._http = httpx.Client(
            base_url=base_url, timeout=self._timeout, trust_env=self._host not in LOOPBACK
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def health(self) -> HealthStatus:
        """Ask how the service fares: a ``Health``, with the details, where it tells them."""
        told = self._call("GET", "/health").json()
        return (Health if "version" in told else HealthStatus).model_validate(told)

    def models(self) -> ModelList:
        """Ask which models there are, and how each fares."""
        return ModelList.model_validate(self._call("GET", "/v1/models").json())

    def generate(self, request: GenerationRequest) -> bytes:
        """Generate one clip and return its encoded bytes; waits until it is done.

        A connection that is lost meanwhile is an error, since a second request could do the same
        work again; a job does not have this weakness. Warns with ``ClipWarning`` of a clip without
        sound.
        """
        body = request.model_dump(exclude_unset=True)
        answer = self._call(
            "POST", "/v1/audio/generations", again=refused, json=body, timeout=self._timeout
        )
        if warning := answer.headers.get("X-Warning"):
            warnings.warn(warning, ClipWarning, stacklevel=2)
        return answer.content

    def upload(self, audio: Path | bytes) -> UploadView:
        """Send a file of audio, so that requests can name it by the ``id`` of the answer.

        However often it has to be sent, it is stored once.
        """

        send = partial(send_file, self._http, audio, self._timeout)
        return UploadView.model_validate(attempts(self._retry_s, interrupted)(send).json())

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

    def job(self, job_id: str) -> JobView:
        return self._job(job_id, wait_s=0)

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

    def download(self, job: JobView, path: Path) -> int:
        """Write the audio of a job that has succeeded to ``path``; return its size in bytes.

        Raises ``ValueError`` if the job has no audio.
        """
        url = job.download_url
        if url is None:
            raise ValueError(f"job {job.id} is {job.status} and has no audio")
        return attempts(self._retry_s, interrupted)(lambda: self._fetch(url, path))

    def _fetch(self, url: str, path: Path) -> int:
        host = httpx.URL(url).host
        if host in ("", self._host):
            streamed = self._http.stream("GET", url, follow_redirects=True)
        else:  # An object store: proxies of the environment may lead to it.
            streamed = httpx.stream(
                "GET",
                url,
                follow_redirects=True,
                timeout=self._timeout,
                trust_env=host not in LOOPBACK,
            )
        with streamed as response:
            if response.is_error:
                response.read()
            raise_for_error(response)
            # Beside it first: a download that breaks off leaves what was there.
            part = path.with_name(f"{path.name}.part")
            with part.open("wb") as file:
                size = sum(map(file.write, response.iter_bytes(CHUNK_BYTES)))
            part.replace(path)
            return size

    def _job(
        self, job_id: str, wait_s: float, again: Callable[[BaseException], bool] = interrupted
    ) -> JobView:
        response = self._call(
            "GET",
            f"/jobs/{job_id}",
            again=again,
            params={"wait": wait_s} if wait_s else None,
            timeout=_timeout(wait_s + self._answer_s),
        )
        return JobView.model_validate(response.json())

    def _call(
        self,
        method: str,
        path: str,
        *,
        again: Callable[[BaseException], bool] = interrupted,
        **options: Any,
    ) -> httpx.Response:
        """Make a call, and make it ``again`` after such errors."""
        options.setdefault("timeout", _timeout(self._answer_s))

        def send() -> httpx.Response:
            response = self._http.request(method, path, **options)
            raise_for_error(response)
            return response

        return attempts(self._retry_s, again)(send)


def _timeout(silence_s: float) -> httpx.Timeout:
    return httpx.Timeout(silence_s, connect=min(silence_s, CONNECT_TIMEOUT_S))
