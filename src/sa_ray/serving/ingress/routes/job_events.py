"""The changes of a job, as server-sent events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from sa_ray.contracts import FINAL_STATUSES, HEARTBEAT_S, JobView, ListedJob
from sa_ray.errors import JobNotFoundError, OverloadedError, UnavailableError
from sa_ray.jobs import JobChange, JobSnapshot
from sa_ray.serving.client_address import address_of
from sa_ray.serving.ingress.clients import MIN_SHARE_S, ClientShares
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.job_lookup import (
    require_job_id,
    require_seen,
    still_calls,
    view_of,
)
from sa_ray.serving.ingress.services import Services, ServicesDep
from sa_ray.serving.ingress.sse import EventStream, job_events

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,  # with its own, FastAPI wants a generator: no 204
    responses={
        200: {
            "description": "Events `queued`, `progress`, `succeeded`, `failed`, `cancelled`; the "
            "data of each is the job, with null for its prompts.",
            "content": {EventSourceResponse.media_type: {"schema": {"type": "string"}}},
        },
        204: {"description": "The job has ended, and `Last-Event-ID` is its last event."},
        **responses(JobNotFoundError, OverloadedError, UnavailableError),
    },
)
async def events(
    job_id: str,
    services: ServicesDep,
    http: Request,
    last_event_id: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Follow a job as server-sent events until it has ended."""
    require_job_id(job_id)
    changes = _counted(
        services.clients,
        address_of(http.scope),
        _while_seen(http, services.job_feed.follow(job_id, HEARTBEAT_S)),
    )
    now = await anext(changes)
    if now and now.event_id == last_event_id and now.snapshot.job.status in FINAL_STATUSES:
        await changes.aclose()
        return Response(status_code=204)
    return EventStream(
        changes, job_events(now, changes, last_event_id, partial(_brief_view, services, http))
    )


async def _counted(
    clients: ClientShares, client: str, changes: AsyncGenerator[JobChange | None, None]
) -> AsyncGenerator[JobChange | None, None]:
    """Yield ``changes`` while they count as one that ``client`` has open."""
    with clients.share(client, MIN_SHARE_S):
        async with aclosing(changes):
            async for change in changes:
                yield change


async def _while_seen(
    http: Request, changes: AsyncGenerator[JobChange | None, None]
) -> AsyncGenerator[JobChange | None, None]:
    """Yield ``changes`` for as long as the caller may know of the job, and raise then."""
    async with aclosing(changes):
        async for change in changes:
            if change is None:
                still_calls(http)
            else:
                require_seen(http, change.snapshot)
            yield change


async def _brief_view(services: Services, http: Request, snapshot: JobSnapshot) -> JobView:
    # Prompts can be long, and a client that reads no event has them pile up in Serve's proxy.
    return ListedJob.of(await view_of(services, http, snapshot), prompts=False)
