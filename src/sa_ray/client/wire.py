"""Write the requests of the HTTP API and read its answers."""

import io
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from sa_ray.contracts import (
    BatchAccepted,
    GenerationRequest,
    JobAccepted,
    JobRequest,
    JobView,
    Manifest,
    RefusedJob,
)
from sa_ray.errors import SaRayError

FOREIGN = "http_error"
"""``code`` of an answer that is not the service's own, but of a proxy before it or an object
store."""

NOT_DEPLOYED = "not_deployed"
"""``code`` while the application is being started or stopped: of a 503, or of Ray Serve's 404."""

LOST = "service_lost"
"""``code`` of a 502 of the proxy: the process that worked on the request is gone."""

SERVE_HINT = "/-/routes"
"""Part of the text of that 404."""


_TOLD = ("status", "code", "param", "retry_after_s", "request_id")


class ApiError(SaRayError):
    """The service answered with an error: its ``status``, ``code``, ``message`` and ``param``.

    ``retry_after_s`` is what ``Retry-After`` said, ``request_id`` what to look for in the log; each
    may be None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.status = status  # type: ignore[misc]
        self.code = code  # type: ignore[misc]
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        told = {name: getattr(self, name) for name in _TOLD}
        return partial(type(self), **told), (self.message,), vars(self)


def job_body(
    request: GenerationRequest, webhook_url: str | None, webhook_secret: str | Sequence[str] | None
) -> dict[str, Any]:
    """Return the JSON of a submit; what is not None replaces the fields of ``request``."""
    body = request.model_dump(exclude_unset=True)
    if isinstance(request, JobRequest) and request.webhook_secret:
        body["webhook_secret"] = [one.get_secret_value() for one in request.webhook_secret]
    if webhook_url is not None:
        body["webhook_url"] = webhook_url
    if webhook_secret is not None:
        one = isinstance(webhook_secret, str)
        body["webhook_secret"] = webhook_secret if one else list(webhook_secret)
    return body


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that came with an answer: its encoded bytes, and what is known of it."""

    data: bytes
    seed: int
    audio_duration: float
    """Seconds."""
    warning: str | None


class ClipWarning(UserWarning):
    """The service found the clip silent or constant; of a job, ``JobView.warning`` says so."""


def with_clips(response: httpx.Response) -> httpx.Response:
    """Return an answer that has clips. Raises ``ValueError`` for one of another kind."""
    if response.headers.get("Content-Type", "").startswith("text/"):
        raise ValueError("it is a page or the like")
    return response


def clip_in(response: httpx.Response) -> bytes:
    """Return the clip of an answer, and warn the client's caller if it has no sound."""
    if warning := response.headers.get("X-Warning"):
        warnings.warn(warning, ClipWarning, stacklevel=3)
    return response.content


def require_one(request: GenerationRequest) -> None:
    """Raise ``ValueError`` for a request of several clips."""
    if request.n > 1:
        raise ValueError(f"the request asks for {request.n} clips; generate_all returns them")


def clips_in(response: httpx.Response) -> list[Clip]:
    """Return the clips of an answer: those of a zip, or the one that it is."""
    headers = response.headers
    if headers["Content-Type"] != "application/zip":
        seconds = float(headers["X-Audio-Duration"])
        warning = headers.get("X-Warning")
        return [Clip(response.content, int(headers["X-Seed"]), seconds, warning)]
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        manifest = Manifest.model_validate_json(archive.read("manifest.json"))
        return [
            Clip(archive.read(file.name), file.seed, file.audio_duration, file.warning)
            for file in manifest.files
        ]


def file_url(job: JobView, index: int) -> str:
    """Return where a file of ``job`` is. Raises ``ValueError`` if there is none."""
    url = job.download_url if index == 0 else None
    if 0 < index < len(job.results):
        url = job.results[index].download_url
    if url is None:
        raise ValueError(f"job {job.id} is {job.status} and has no audio {index}")
    return url


def file_paths(job: JobView, path: Path) -> list[Path]:
    """Return where the files of ``job`` go: of several, to ``name-1.wav`` and so on."""
    if len(job.results) < 2:
        return [path]
    return [path.with_stem(f"{path.stem}-{file.index + 1}") for file in job.results]


def outcomes_in(response: httpx.Response) -> list[JobAccepted | ApiError]:
    """Return what became of each request of a batch: its job or its error."""
    return [
        job if isinstance(job, JobAccepted) else _refusal(job)
        for job in BatchAccepted.model_validate(response.json()).jobs
    ]


def _refusal(refused: RefusedJob) -> ApiError:
    error = refused.error
    return ApiError(
        error.message,
        status=refused.status_code,
        code=error.code,
        param=error.param,
        retry_after_s=refused.retry_after,
        request_id=error.request_id,
    )


def raise_for_error(response: httpx.Response) -> None:
    """Raise ``ApiError`` for an answer that is none, or an error; its body has been read."""
    if response.is_success:
        return
    try:
        body = response.json()["error"]
        message, code, param = body["message"], body["code"], body["param"]
    except (ValueError, KeyError, TypeError):
        message, code, param = response.text[:500] or response.reason_phrase, FOREIGN, None
        if response.has_redirect_location:
            message = f"It leads to another address: {response.headers['Location']}"
        if response.status_code == httpx.codes.NOT_FOUND and SERVE_HINT in message:
            message, code = "No service is deployed there, or it is being started.", NOT_DEPLOYED
    wait = response.headers.get("Retry-After", "")
    raise ApiError(
        message,
        status=response.status_code,
        code=code,
        param=param,
        # A date, its other form, stands for no hint.
        retry_after_s=int(wait) if wait.isascii() and wait.isdigit() else None,
        request_id=response.headers.get("X-Request-Id"),
    )
