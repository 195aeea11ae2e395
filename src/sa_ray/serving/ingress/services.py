"""Services that the routes work with: one instance in every ingress replica."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from ray import serve

from sa_ray.access import Keyring
from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.jobs import JobSnapshot, Submission
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.scheduling.estimator import Estimator
from sa_ray.serving.actors import JobsClient, UploaderClient
from sa_ray.serving.ingress.adapters import ClientAdapters
from sa_ray.serving.ingress.clients import ClientShares
from sa_ray.serving.ingress.grouped_calls import GroupedCalls
from sa_ray.serving.ingress.health import HealthMonitor
from sa_ray.serving.ingress.job_feed import JobFeed
from sa_ray.serving.ingress.sync_generation import SyncGeneration
from sa_ray.serving.ingress.uploads import ClientUploads
from sa_ray.serving.job_view import JobViews
from sa_ray.serving.links import Links
from sa_ray.settings import LimitSettings, ModelSettings


@dataclass(frozen=True)
class Services:
    models: ModelSettings
    limits: LimitSettings
    webhooks: WebhookSecrets | None
    """None: no webhooks are called."""
    engine: EngineName
    estimators: Mapping[VariantName, Estimator]
    """Of what requests cost, before anything is measured here."""
    generation: SyncGeneration
    jobs: JobsClient
    submit_job: GroupedCalls[Submission, JobSnapshot]
    submit_of_batch: GroupedCalls[Submission, JobSnapshot]
    """Apart, with one group under way: the jobs of batches hold up no job that comes alone."""
    read_job: GroupedCalls[str, JobSnapshot]
    job_feed: JobFeed
    uploader: UploaderClient
    uploads: ClientUploads
    links: Links
    adapters: ClientAdapters
    views: JobViews
    health: HealthMonitor
    clients: ClientShares
    keyring: Keyring

    def work(self, request: ResolvedRequest) -> float:
        """Estimate the seconds of one replica that ``request`` takes under load."""
        return self.estimators[request.model].share(request)


async def of_this_replica() -> Services:
    """Return the services of the replica that this runs in."""
    # A coroutine, or FastAPI would run it in a thread for every request.
    replica: Any = serve.get_replica_context().servable_object
    return replica.services  # type: ignore[no-any-return]


async def services_for(request: Request) -> Services:
    """Return what ``ServicesDep`` gives a route, for those that do without FastAPI."""
    provide = request.app.dependency_overrides.get(of_this_replica, of_this_replica)
    return await provide()  # type: ignore[no-any-return]


ServicesDep = Annotated[Services, Depends(of_this_replica)]
