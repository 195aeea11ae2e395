"""Synchronous HTTP client of the service."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sa_ray.client.wire import raise_for_error
from sa_ray.contracts import (
    FINAL_STATUSES,
    GenerationRequest,
    Health,
    JobAccepted,
    JobView,
)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts to which no proxy of the environment leads."""

POLL_PERIOD_S = 0.25
CHUNK_BYTES = 1 << 20


class Client:
    """Client of one service at ``base_url``. ``timeout_s`` bounds each network operation, seconds.

    Raises ``ApiError`` for an error answer and ``httpx.TransportError`` if there is no answer.
    """

    def __init__(self, base_url: str = "http://localhost:8000", *, timeout_s: float = 600) -> None:
        self._host = httpx.URL(base_url).host
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=base_url, timeout=timeout_s, trust_env=self._host not in LOOPBACK
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

    def health(self) -> Health:
        return Health.model_validate(self._json("GET", "/health"))

    def generate(self, request: GenerationRequest) -> bytes:
        """Generate one clip and return its encoded bytes; waits until it is done."""
        body = request.model_dump(exclude_unset=True)
        response = self._http.post("/v1/audio/generations", json=body)
        raise_for_error(response)
        return response.content

    def submit(self, request: GenerationRequest) -> JobAccepted:
        body = request.model_dump(exclude_unset=True)
        return JobAccepted.model_validate(self._json("POST", "/jobs", json=body))

    def job(self, job_id: str) -> JobView:
        return JobView.model_validate(self._json("GET", f"/jobs/{job_id}"))

    def cancel(self, job_id: str) -> None:
        """Cancel the job, or delete it if it has ended."""
        raise_for_error(self._http.delete(f"/jobs/{job_id}"))

    def wait(self, job_id: str, on_update: Callable[[JobView], object] = lambda _: None) -> JobView:
        """Poll until the job has ended, calling ``on_update`` with every reading."""
        while True:
            job = self.job(job_id)
            on_update(job)
            if job.status in FINAL_STATUSES:
                return job
            time.sleep(POLL_PERIOD_S)

    def download(self, job: JobView, path: Path) -> int:
        """Write the audio of a job that has succeeded to ``path``; return its size in bytes.

        Raises ``ValueError`` if the job has no audio.
        """
        if job.download_url is None:
            raise ValueError(f"job {job.id} is {job.status} and has no audio")
        size = 0
        with self._stream(job.download_url) as response:
            if response.is_error:
                response.read()
            raise_for_error(response)
            with path.open("wb") as file:
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    size += file.write(chunk)
        return size

    def _stream(self, url: str) -> AbstractContextManager[httpx.Response]:
        if httpx.URL(url).host in ("", self._host):
            return self._http.stream("GET", url, follow_redirects=True)
        # An object store: proxies of the environment may lead to it.
        return httpx.stream("GET", url, follow_redirects=True, timeout=self._timeout_s)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._http.request(method, path, **options)
        raise_for_error(response)
        return response.json()
