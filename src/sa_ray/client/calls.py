"""Every call of the API: what is sent, how its answer is read, and when it is made again.

Both clients make them, each in its own way; here is no input or output.
"""

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeVar

import httpx
from pydantic import BaseModel

from sa_ray.client.retrying import Again, interrupted, refused, turned_away
from sa_ray.client.wire import FOREIGN, ApiError, job_body, outcomes_in, with_clips
from sa_ray.contracts import (
    GenerationRequest,
    Health,
    HealthStatus,
    JobAccepted,
    JobPage,
    JobStatus,
    JobView,
    LoraList,
    ModelList,
    PresetList,
    UploadView,
    UsageReport,
)

LONG_POLL_S = 20.0
"""How long a read of a job may wait for its end: shorter than proxies bear silence."""

UPDATE_PERIOD_S = 0.5
"""The same, where somebody watches the progress."""

T = TypeVar("T")
View = TypeVar("View", bound=BaseModel)

Audio = str | os.PathLike[str] | bytes
"""A file of audio: its path, or what is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """A call, which is answered with a ``T``."""

    method: str = "GET"
    path: str
    read: Callable[[httpx.Response], T]
    again: Again = interrupted
    silence_s: float | None = 0.0
    """Seconds for which the service may be silent on purpose; None: as long as a clip may take."""
    params: dict[str, Any] = field(default_factory=dict)
    """Of the query; those that are None are left out."""
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    audio: Audio | None = None
    """A file that is the body."""

    def answer(self, response: httpx.Response) -> T:
        """Read the answer. Raises ``ApiError`` if it is not of this service."""
        try:
            return self.read(response)
        except (ValueError, TypeError) as error:
            raise ApiError(
                "What answers is not this service. Is this its address?",
                status=response.status_code,
                code=FOREIGN,
            ) from error

    @property
    def query(self) -> dict[str, Any] | None:
        return {name: value for name, value in self.params.items() if value is not None} or None


def health() -> Call[HealthStatus]:
    def read(response: httpx.Response) -> HealthStatus:
        told = response.json()
        return (Health if "version" in told else HealthStatus).model_validate(told)

    return Call(path="/health", read=read)


def models() -> Call[ModelList]:
    return Call(path="/v1/models", read=_a(ModelList))


def presets(model: str | None) -> Call[PresetList]:
    return Call(path="/v1/presets", read=_a(PresetList), params={"model": model})


def loras(model: str | None) -> Call[LoraList]:
    return Call(path="/v1/loras", read=_a(LoraList), params={"model": model})


def usage(first: date | None, last: date | None, key: str | None) -> Call[UsageReport]:
    params = {"from": first and first.isoformat(), "to": last and last.isoformat(), "key": key}
    return Call(path="/v1/usage", read=_a(UsageReport), params=params)


def generation(request: GenerationRequest) -> Call[httpx.Response]:
    return Call(
        method="POST",
        path="/v1/audio/generations",
        read=with_clips,
        again=refused,
        silence_s=None,
        json=request.model_dump(exclude_unset=True),
    )


def upload(audio: Audio) -> Call[UploadView]:
    return Call(
        method="POST",
        path="/v1/uploads",
        read=_a(UploadView),
        silence_s=None,
        headers={"Content-Type": "application/octet-stream"},
        audio=audio,
    )


def source(
    init_audio: Audio | None, inpaint_audio: Audio | None, continue_audio: Audio | None
) -> tuple[str, Audio]:
    """Return what an edit is made from, and as which field. Raises ``ValueError`` unless one is
    given."""
    named = {
        "init_audio": init_audio,
        "inpaint_audio": inpaint_audio,
        "continue_audio": continue_audio,
    }
    given = [(name, audio) for name, audio in named.items() if audio is not None]
    if len(given) != 1:
        raise ValueError(f"an edit is made from one of {', '.join(named)}; {len(given)} are given")
    return given[0]


def submission(
    request: GenerationRequest,
    idempotency_key: str | None,
    webhook_url: str | None,
    webhook_secret: str | Sequence[str] | None,
) -> Call[JobAccepted]:
    return Call(
        method="POST",
        path="/jobs",
        read=_a(JobAccepted),
        json=job_body(request, webhook_url, webhook_secret),
        headers=_once(idempotency_key),
    )


def submissions(
    requests: Sequence[GenerationRequest], idempotency_key: str | None
) -> Call[list[JobAccepted | ApiError]]:
    return Call(
        method="POST",
        path="/jobs/batch",
        read=outcomes_in,
        silence_s=None,
        json={"requests": [job_body(one, None, None) for one in requests]},
        headers=_once(idempotency_key),
    )


def job(job_id: str, wait_s: float = 0.0, again: Again = interrupted) -> Call[JobView]:
    return Call(
        path=f"/jobs/{job_id}",
        read=_a(JobView),
        again=again,
        silence_s=wait_s,
        params={"wait": wait_s or None},
    )


def job_page(status: JobStatus | None, cursor: str | None, *, prompts: bool) -> Call[JobPage]:
    include = "prompts" if prompts else None
    params = {"status": status, "include": include, "cursor": cursor}
    return Call(path="/jobs", read=_a(JobPage), params=params)


def cancellation(job_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/jobs/{job_id}", read=lambda _: None, again=turned_away)


def _a(view: type[View]) -> Callable[[httpx.Response], View]:
    return lambda response: view.model_validate(response.json())


def _once(idempotency_key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
