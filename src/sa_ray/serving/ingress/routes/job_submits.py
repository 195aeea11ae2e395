"""Submit jobs: one that is answered 202 is durable and will end, whatever happens."""

import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from sa_ray.contracts import JobAccepted, JobRequest
from sa_ray.contracts.access import Caller
from sa_ray.errors import IdempotencyConflictError, OverloadedError, UnavailableError
from sa_ray.jobs import JobSnapshot, Submission
from sa_ray.jobs.usage import day_of
from sa_ray.serving.ingress.audit import audit
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.forms import FORM, FormRoute
from sa_ray.serving.ingress.grouped_calls import GroupedCalls
from sa_ray.serving.ingress.job_lookup import base_url
from sa_ray.serving.ingress.resolution import settle
from sa_ray.serving.ingress.rights import require_rights
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS
from sa_ray.serving.ingress.routes.job_options import job_options
from sa_ray.serving.ingress.services import Services, ServicesDep, services_for
from sa_ray.serving.job_view import status_url
from sa_ray.serving.ray_errors import cannot_serve
from sa_ray.serving.streamed_bodies import is_streamed

MAX_KEY = 255
"""Longest idempotency key, in characters."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_KEY,
        description="Repeating a request with its key returns the job it made, with "
        "`Idempotent-Replayed: true`; the key lives as long as the job.",
    ),
]


class SubmitRoute(FormRoute):
    """A route whose valid requests in JSON are answered without FastAPI's part in it, as by
    ``StatusRoute``. FastAPI tells what is wrong with others."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_plain(http: Request) -> Response:
            key = http.headers.get("idempotency-key")
            if is_streamed(http.scope) or (key is not None and not 0 < len(key) <= MAX_KEY):
                return await handle(http)
            try:
                asked = JobRequest.model_validate(await http.json())
            except (ValueError, RecursionError):
                return await handle(http)
            told = Response(status_code=202)
            answer = await submit(asked, await services_for(http), http, told, key)
            told.headers["content-type"] = "application/json"
            told.body = answer.model_dump_json().encode()
            told.headers["content-length"] = str(len(told.body))
            return told

        return handle_plain


router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=SubmitRoute)


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": JobAccepted, "description": "The job that this idempotency key made."},
        **responses(*BODY_ERRORS, IdempotencyConflictError, OverloadedError, UnavailableError),
    },
    openapi_extra=FORM,
)
async def submit(
    request: JobRequest,
    services: ServicesDep,
    http: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobAccepted:
    """Accept a job. Once this answers 202 the job is durable and will end, whatever happens."""
    caller = caller_of(http)
    submission = await submission_of(request, services, caller, idempotency_key)
    snapshot = await submit_or_find(services, submission, services.submit_job)
    outcome = "found" if snapshot.replayed else "done"
    audit(http, "submitted", caller.name, thing=snapshot.job.id, outcome=outcome)
    if snapshot.replayed:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = "true"
    url = status_url(base_url(http), snapshot.job.id)
    response.headers["Location"] = url
    return JobAccepted(id=snapshot.job.id, status=snapshot.job.status, status_url=url)


async def submission_of(
    request: JobRequest, services: Services, caller: Caller, idempotency_key: str | None
) -> Submission:
    """Return the job that ``request`` of ``caller`` asks for. Raises what is wrong with it."""
    resolved = await settle(request, services, caller)
    require_rights(caller, request, resolved.model)
    options = job_options(
        request,
        idempotency_key,
        services.webhooks,
        caller,
        services.work(resolved),
        services.generation.accepted_seconds(caller.name, day_of(time.time())),
    )
    return Submission(uuid.uuid4().hex, resolved, options)


async def submit_or_find(
    services: Services, submission: Submission, submit: GroupedCalls[Submission, JobSnapshot]
) -> JobSnapshot:
    """Queue a job by ``submit``, or return the one that it repeats.

    Raises ``UnavailableError`` if its model has no replica and gets none, and what ``submit_all``
    returns.
    """
    model = submission.request.model
    if services.health.variant(model).state != "unavailable":
        return await submit(submission)
    repeated = None
    if submission.options.idempotency_key:
        repeated = await services.jobs.find_repeated(submission)
    if repeated is None:
        raise cannot_serve(model)
    return repeated
