"""The composition root: settings in, Serve application out."""

from dataclasses import replace
from typing import Any

import ray
from ray import serve
from ray.serve import Application

from sa_ray.audio import require_c2pa
from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import EngineName, VariantName
from sa_ray.engines import resolve_engine_name
from sa_ray.jobs import check_job_store_url
from sa_ray.jobs.sqlite_file import absolute_sqlite_url
from sa_ray.scheduling.costs import Cost, cost_of
from sa_ray.serving.actors import provision
from sa_ray.serving.deployment_options import (
    autoscaling_config,
    grace_seconds,
    ingress_limits,
    ingress_replicas,
    queued_requests,
    router_config,
)
from sa_ray.serving.dispatcher.deployment import Dispatcher
from sa_ray.serving.ingress.deployment import Ingress
from sa_ray.serving.variant.deployment import Variant
from sa_ray.settings import ModelSettings, Settings, load_settings, refuse_secrets

SMALL_CPUS = 0.05
"""For the ingress and the dispatcher, which mostly wait; keeps them off a head without CPUs."""

HEALTH_CHECK_PERIOD_S = 2.0
"""Period of Serve's health checks: how late it replaces a replica that was killed."""


def build(args: dict[str, Any]) -> Application:
    """Build the application; the ``import_path`` of ``serve_config.yaml``.

    ``args`` are settings by field name, over the environment. Raises ``ConfigurationError`` for
    an unknown key, a secret, a malformed value, a contradiction, or an engine that is not
    installed, before anything is scheduled.
    """
    require_no_secret_in_runtime_env()
    settings = resolve_paths(load_settings(args)).sealed()
    check_job_store_url(settings.jobs.jobs_url)
    if settings.credentials.c2pa_certificate:
        require_c2pa()
    models = settings.models
    engine = resolve_engine_name(models.engine)
    provision(settings.jobs, settings.storage)
    on_gpu = engine == "stable-audio-3" and wants_gpu(models)
    costs = {name: cost_of(name, engine, gpu=on_gpu) for name in VARIANTS}
    variants = {
        name: variant(name, engine, settings, costs[name], on_gpu=on_gpu) for name in VARIANTS
    }
    return ingress(engine, settings, costs, variants, dispatcher(settings, variants))


def ingress(
    engine: EngineName,
    settings: Settings,
    costs: dict[VariantName, Cost],
    variants: dict[VariantName, Application],
    jobs: Application,
) -> Application:
    """Bind the HTTP ingress. ``jobs``: the dispatcher, which is deployed with it."""
    specs = [settings.models.spec(name) for name in VARIANTS]
    return serve.deployment(
        name="ingress",
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        # Not as long as a variant's: a client may ask again, and none waits for hours.
        graceful_shutdown_timeout_s=max(spec.grace_seconds for spec in specs),
        **ingress_replicas(settings.limits),
        **ingress_limits(specs, settings.limits),
        ray_actor_options={"num_cpus": SMALL_CPUS},
    )(Ingress).bind(
        engine,
        settings.models,
        settings.limits,
        settings.edge,
        settings.jobs,
        settings.storage,
        variants,
        jobs,
        webhooks=settings.webhooks,
        access=settings.access,
        costs=costs,
    )


def dispatcher(settings: Settings, variants: dict[VariantName, Application]) -> Application:
    """Bind the dispatcher."""
    return serve.deployment(
        name="dispatcher",
        num_replicas=1,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        ray_actor_options={"num_cpus": SMALL_CPUS},
    )(Dispatcher).bind(
        settings.models,
        settings.jobs,
        settings.storage,
        settings.webhooks,
        settings.webhooks.authorities(),
        settings.edge.public_url,
        variants,
    )


def variant(
    name: VariantName,
    engine: EngineName,
    settings: Settings,
    cost: Cost,
    *,
    on_gpu: bool,
) -> Application:
    """Bind one model variant, with the catalogue's resources and autoscaling bounds."""
    spec = settings.models.spec(name)
    gpu = spec.gpu if on_gpu else None
    return serve.deployment(
        name=name,
        # Not None: Serve would not tell replicas that an operator's limits are gone.
        user_config={},
        max_ongoing_requests=spec.max_ongoing_requests,
        max_queued_requests=queued_requests(spec, settings.limits),
        graceful_shutdown_timeout_s=grace_seconds(spec, cost),
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        ray_actor_options={"num_cpus": spec.cpu, "num_gpus": gpu or 0},
        autoscaling_config=autoscaling_config(
            settings.models.autoscaling,
            spec,
            cost,
            min_replicas=1 if name in settings.models.preloaded else 0,
        ),
        request_router_config=router_config(spec, cost),
    )(Variant).bind(
        name,
        engine,
        settings.models,
        settings.weights,
        settings.credentials,
        settings.jobs,
        settings.storage,
        gpu,
    )


def require_no_secret_in_runtime_env() -> None:
    """Raise ``ConfigurationError`` if the application's ``runtime_env`` sets a secret."""
    if not ray.is_initialized():
        return
    given = ray.get_runtime_context().runtime_env.get("env_vars") or {}
    refuse_secrets(given, "Ray keeps `runtime_env`")


def wants_gpu(models: ModelSettings) -> bool:
    """Return True if replicas ask for GPUs: always for ``cuda``, for ``auto`` if there are any."""
    if models.device == "auto":
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return resources.get("GPU", 0) > 0
    return models.device == "cuda"


def resolve_paths(settings: Settings) -> Settings:
    """Make relative paths absolute here and now: replicas may run in other directories."""
    folder = settings.storage.output_dir.expanduser().absolute()
    storage = settings.storage.model_copy(update={"output_dir": folder})
    jobs_url = absolute_sqlite_url(settings.jobs.jobs_url)
    jobs = settings.jobs.model_copy(update={"jobs_url": jobs_url})
    keys = settings.access.api_keys_file
    access = settings.access.model_copy(
        update={"api_keys_file": keys and keys.expanduser().absolute()}
    )
    given = dict(settings.credentials)
    files = {name: path and path.expanduser().absolute() for name, path in given.items()}
    credentials = settings.credentials.model_copy(update=files)
    return replace(settings, jobs=jobs, storage=storage, credentials=credentials, access=access)
