"""Many jobs in one request, each accepted or refused by itself."""

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import ValidationError

from sa_ray.contracts import BatchAccepted, BatchRequest, JobAccepted, JobRequest, RefusedJob
from sa_ray.errors import SaRayError, UnavailableError
from sa_ray.serving.ingress.audit import audit
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import describe_unfit, error_body, responses, retry_after_of
from sa_ray.serving.ingress.job_lookup import base_url
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS
from sa_ray.serving.ingress.routes.job_submits import submission_of, submit_or_find
from sa_ray.serving.ingress.services import Services, ServicesDep
from sa_ray.serving.job_view import status_url

router = APIRouter(prefix="/jobs", tags=["jobs"])

GROUP = 16
"""Jobs of a batch that are submitted at once, and no more until they are stored: others come in
between."""

BATCH_S = 60.0
"""Seconds after which the rest of a batch is refused: proxies cut silent requests soon after."""


@router.post("/batch", status_code=202, responses=responses(*BODY_ERRORS, UnavailableError))
async def submit_batch(
    batch: BatchRequest,
    services: ServicesDep,
    http: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Repeating the batch with its key adds only what made no job before, and "
            "answers with the same jobs.",
        ),
    ] = None,
) -> BatchAccepted:
    """Accept up to 1,000 jobs. Those that this answers with an id are durable and will end."""
    keys = _keys(idempotency_key, len(batch.requests))
    pairs = list(zip(batch.requests, keys, strict=True))
    begun = asyncio.get_running_loop().time()
    outcomes: list[JobAccepted | RefusedJob] = []
    for start in range(0, len(pairs), GROUP):
        late = asyncio.get_running_loop().time() - begun > BATCH_S
        outcomes += await asyncio.gather(
            *(_outcome(services, http, *pair, late=late) for pair in pairs[start:][:GROUP])
        )
    return BatchAccepted(jobs=outcomes)


async def _outcome(
    services: Services, http: Request, given: Any, key: str | None, *, late: bool
) -> JobAccepted | RefusedJob:
    """Submit one request; ``late``: refuse it, since those before it have taken all the time."""
    try:
        if late:
            raise UnavailableError(
                f"The requests before this one took {BATCH_S:g} s. Send it again; with an "
                "`Idempotency-Key`, the whole batch.",
                retry_after_s=1,
            )
        return await _submit(services, http, _checked(given), key)
    except SaRayError as error:
        return RefusedJob(
            error=error_body(error, http),
            status_code=error.status,
            retry_after=retry_after_of(error),
        )


async def _submit(
    services: Services, http: Request, request: JobRequest, key: str | None
) -> JobAccepted:
    caller = caller_of(http)
    submission = await submission_of(request, services, caller, key)
    found = await submit_or_find(services, submission, services.submit_of_batch)
    job = found.job
    audit(http, "submitted", caller.name, thing=job.id)
    return JobAccepted(id=job.id, status=job.status, status_url=status_url(base_url(http), job.id))


def _checked(given: Any) -> JobRequest:
    """Return the request; raise ``InvalidRequestError`` that says why it is none."""
    if isinstance(given, JobRequest):
        return given
    try:
        return JobRequest.model_validate(given)
    except ValidationError as error:
        raise describe_unfit(error, JobRequest) from None


def _keys(key: str | None, count: int) -> list[str | None]:
    """Derive the idempotency keys of the requests of a batch, by their places in it."""
    if key is None:
        return [None] * count
    digest = hashlib.sha256(key.encode()).hexdigest()
    return [f"batch-{digest}-{place}" for place in range(count)]
