"""``sa-ray check``: use a running service from end to end, and say what works."""

import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import httpx
import typer

from sa_ray.audio import probe
from sa_ray.cli.connecting import service_address, without_password
from sa_ray.cli.console import HERE, AsJson, console
from sa_ray.cli.findings import Finding, report
from sa_ray.client import ApiError, Client, ClipWarning
from sa_ray.contracts import FINAL_STATUSES, GenerationRequest, Health, JobRequest, JobView
from sa_ray.errors import InvalidRequestError

RETRY_S = 10.0
"""How long a service that refuses is asked again: a check tells of trouble, and soon."""

SECONDS = 1.0
"""Length of the clips."""


class CheckError(Exception):
    """The service answers, but not as it should."""


class DegradedError(CheckError):
    """It serves all the same, as far as it says."""


def check(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = HERE,
    model: Annotated[
        str | None, typer.Option(help="Model to make two clips with; the service's default.")
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(min=1, help="Longest wait for a clip, seconds; models load first."),
    ] = 600,
    as_json: AsJson = False,
) -> None:
    """Check a running service: health, models, a clip, and a job with its file.

    Ends with 1 if anything does not work. The job is deleted again.
    """
    url = service_address(url)
    with Client(url, timeout_s=timeout, retry_s=RETRY_S) as client:
        report(as_json, _findings(client, model, timeout), url=without_password(url))


def _findings(client: Client, model: str | None, timeout_s: float) -> Iterator[Finding]:
    """Check one thing after the other; where the service does not answer, nothing after that."""
    health, error = _tried("health", lambda: _health(client))
    yield health
    if error and not isinstance(error, DegradedError):
        return
    request = GenerationRequest(model=model, prompt="a bell", duration=SECONDS, seed=1)
    yield _tried("models", lambda: _models(client))[0]
    yield _tried("clip", lambda: _clip(client, request))[0]
    yield _tried("job", lambda: _job(client, request, timeout_s))[0]


def _tried(name: str, work: Callable[[], str]) -> tuple[Finding, Exception | None]:
    fault: Exception | None = None
    started = time.monotonic()
    try:
        with console.status(f"{name} ...") if console.is_terminal else nullcontext():
            said = work()
    except ApiError as error:
        fault, said = error, f"{error.status} {error.code}: {error.message}"
    except httpx.TransportError as error:
        fault, said = error, f"no answer ({error}). Is it running, and is this its address?"
    except (CheckError, InvalidRequestError) as error:
        fault, said = error, str(error)
    return Finding(name, fault is None, said, round(time.monotonic() - started, 3)), fault


def _health(client: Client) -> str:
    told = client.health()
    if told.status == "starting":
        raise CheckError("it is starting; wait for a minute and check again.")
    details = f", version {told.version}, {told.engine}" if isinstance(told, Health) else ""
    if told.status == "degraded":
        why = _troubles(told) or "GET /health there says why."
        raise DegradedError(f"degraded{details}: {why}")
    return f"{told.status}{details}"


def _troubles(health: object) -> str:
    if not isinstance(health, Health):
        return ""
    parts = {"storage": health.storage, "jobs": health.jobs}
    lines = [f"{name}: {part.message}" for name, part in parts.items() if not part.ok]
    variants = health.variants.items()
    lines += [f"{name}: {one.message}" for name, one in variants if one.state == "unavailable"]
    lines += [f"{name} is slow: {one.slowdown}" for name, one in variants if one.slowdown]
    return "; ".join(lines)


def _models(client: Client) -> str:
    return ", ".join(f"{one.id} {one.state}" for one in client.models().models)


def _clip(client: Client, request: GenerationRequest) -> str:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ClipWarning)
        data = client.generate(request)
    if told:
        raise CheckError(str(told[0].message))
    return _sound(data, "the clip")


def _job(client: Client, request: GenerationRequest, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    accepted = client.submit(JobRequest(**request.model_dump(), expires_in=timeout_s))

    def in_time(job: JobView) -> None:
        if time.monotonic() > deadline and job.status not in FINAL_STATUSES:
            client.cancel(job.id)
            raise CheckError(f"job {job.id} was still {job.status} after {timeout_s:g} s.")

    job = client.wait(accepted.id, in_time)
    if job.status != "succeeded":
        raise CheckError(f"job {job.id} {job.status}: {job.error}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip"
        client.download(job, file)
        data = file.read_bytes()
    client.cancel(job.id)
    if job.warning:
        raise CheckError(job.warning)
    if hashlib.sha256(data).hexdigest() != job.sha256:
        raise CheckError(f"the file of job {job.id} is not the one that was stored.")
    waited = job.timings.total_seconds
    return f"{_sound(data, 'the file')}, in {job.storage_backend}, after {waited or 0:.1f} s"


def _sound(data: bytes, name: str) -> str:
    found = probe(data)
    if abs(found.duration - SECONDS) > 1 / found.sample_rate:
        raise CheckError(f"{name} is {found.duration:g} s long instead of {SECONDS:g} s.")
    return f"{found.duration:g} s of {found.format} at {found.sample_rate} Hz"
