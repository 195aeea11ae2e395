"""The status of a job: what most requests ask for."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute

from sa_ray.contracts import FINAL_STATUSES, JobView
from sa_ray.errors import (
    InvalidRequestError,
    JobNotFoundError,
    OverloadedError,
    UnavailableError,
)
from sa_ray.serving.client_address import address_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.job_lookup import find_job, require_seen, view_of
from sa_ray.serving.ingress.services import ServicesDep, services_for

MAX_WAIT_S = 120.0
"""Longest long poll; proxies in front of the service cut silent requests not much later."""


class StatusRoute(APIRoute):
    """A route whose requests without a query are answered without FastAPI's part in it.

    Finding what the function takes, and checking what it returns against the model that it is an
    instance of, cost more than all else that an ingress does for such a request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_plain(request: Request) -> Response:
            if request.scope["query_string"]:
                return await handle(request)
            services = await services_for(request)
            view = await get_job(request.path_params["job_id"], services, request)
            return Response(view.model_dump_json(), media_type="application/json")

        return handle_plain


router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=StatusRoute)


@router.get(
    "/{job_id}",
    responses=responses(JobNotFoundError, InvalidRequestError, OverloadedError, UnavailableError),
)
async def get_job(
    job_id: str,
    services: ServicesDep,
    http: Request,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the job to end, at most."),
    ] = 0,
) -> JobView:
    """Status, progress and, once the job has succeeded, a download URL minted at this read."""
    snapshot = await find_job(services, http, job_id)
    if wait and snapshot.job.status not in FINAL_STATUSES:
        with services.clients.share(address_of(http.scope)):
            snapshot = await services.job_feed.end(job_id, wait)
        require_seen(http, snapshot)
    return await view_of(services, http, snapshot)
