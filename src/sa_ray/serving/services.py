"""What the routes work with: one of these in every ingress replica."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from sa_ray.config import Settings
from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.jobs import JobSnapshot
from sa_ray.serving.actors import ActorClient
from sa_ray.serving.faults import InfrastructureError, cannot_serve, translate
from sa_ray.serving.grouping import GroupedCalls
from sa_ray.serving.health import REFRESH_PERIOD_S, HealthMonitor
from sa_ray.serving.job_actor import Submit
from sa_ray.serving.messages import EncodedAudio
from sa_ray.storage import ObjectStore

SYNC_ATTEMPTS = 2
"""A synchronous request whose replica died is tried once more while its client still waits."""


@dataclass(frozen=True)
class Services:
    settings: Settings
    engine: EngineName
    variants: dict[VariantName, DeploymentHandle[Any]]
    jobs: ActorClient
    submit_job: GroupedCalls[Submit, JobSnapshot]
    read_job: GroupedCalls[str, JobSnapshot]
    uploader: ActorClient
    store: ObjectStore
    """Only for minting URLs; objects are read and written by the uploader."""
    health: HealthMonitor

    def require_servable(self, variant: VariantName) -> None:
        """Raise ``UnavailableError`` if no replica of ``variant`` can be had at all."""
        if self.health.variant(variant).state == "unavailable":
            raise cannot_serve(variant)

    async def generate(self, request: ResolvedRequest) -> EncodedAudio:
        """Have the variant generate ``request`` while the caller waits; cancelling cancels it."""
        self.require_servable(request.model)
        for attempt in range(1, SYNC_ATTEMPTS + 1):
            response = cast(
                DeploymentResponse[Any], self.variants[request.model].generate.remote(request)
            )
            try:
                return await self._answer(request.model, response)
            except asyncio.CancelledError:
                response.cancel()  # type: ignore[no-untyped-call]
                raise
            except Exception as error:
                reason = translate(error)
                if not isinstance(reason, InfrastructureError) or attempt == SYNC_ATTEMPTS:
                    raise reason from error
        raise AssertionError("unreachable")

    async def _answer(
        self, variant: VariantName, response: DeploymentResponse[Any]
    ) -> EncodedAudio:
        """Await ``response``, as long as there is or may be a replica to give it.

        Serve keeps a request that waits for a first replica even once it has stopped trying to
        start one.
        """
        answer = asyncio.ensure_future(_value(response))
        try:
            while not (await asyncio.wait({answer}, timeout=REFRESH_PERIOD_S))[0]:
                if self.health.given_up(variant):
                    response.cancel()  # type: ignore[no-untyped-call]
                    raise cannot_serve(variant)
            return await answer
        finally:
            answer.cancel()


async def _value(response: DeploymentResponse[Any]) -> EncodedAudio:
    return await response  # type: ignore[no-any-return]


async def _of_this_replica() -> Services:
    # A coroutine, or FastAPI would run it in a thread for every request.
    replica: Any = serve.get_replica_context().servable_object
    return replica.services  # type: ignore[no-any-return]


ServicesDep = Annotated[Services, Depends(_of_this_replica)]
