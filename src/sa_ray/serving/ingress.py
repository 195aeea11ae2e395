"""The ingress deployment: the only thing that speaks HTTP. It holds no state."""

import asyncio
import contextlib
import logging
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from sa_ray.config import Settings
from sa_ray.contracts import EngineName, VariantName
from sa_ray.engines import INSTALL_HINT
from sa_ray.errors import StorageError
from sa_ray.serving.actors import jobs_client, uploader_client
from sa_ray.serving.grouping import GroupedCalls
from sa_ray.serving.health import HealthMonitor
from sa_ray.serving.http import build_http_app
from sa_ray.serving.services import Services
from sa_ray.storage import open_object_store
from sa_ray.telemetry import configure_logging

logger = logging.getLogger(__name__)


@serve.ingress(build_http_app)
class Ingress:
    """Any replica serves any request. ``services`` is what the routes work with.

    The dispatcher is bound only so that Serve deploys it with the application.
    """

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self,
        settings: Settings,
        engine: EngineName,
        variants: dict[VariantName, DeploymentHandle[Any]],
        _dispatcher: DeploymentHandle[Any],
    ) -> None:
        configure_logging()
        jobs, uploader = jobs_client(settings), uploader_client(settings)
        store = open_object_store(settings)
        # The first URL loads the S3 client and finds credentials, which takes its time.
        with contextlib.suppress(StorageError):
            await asyncio.to_thread(store.url, "first")
        self.services = Services(
            settings=settings,
            engine=engine,
            variants=variants,
            jobs=jobs,
            submit_job=GroupedCalls(partial(jobs.call, "submit_all")),
            read_job=GroupedCalls(partial(jobs.call, "get_all")),
            uploader=uploader,
            store=store,
            health=HealthMonitor(settings, engine, jobs, uploader),
        )
        if engine == "procedural":
            logger.warning(
                "The procedural engine is a stand-in, not Stable Audio 3. For the real model: %s.",
                INSTALL_HINT,
            )
