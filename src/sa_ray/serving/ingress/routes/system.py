"""System routes: the models, and the health of the service."""

from fastapi import APIRouter

from sa_ray.catalogue import VARIANTS, aliases
from sa_ray.contracts import Health, ModelList, ModelView
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.services import ServicesDep
from sa_ray.settings import duration_limit

router = APIRouter(tags=["system"])


@router.get("/health", responses=responses())
async def health(services: ServicesDep) -> Health:
    """Answers 200 as long as this process can; `status` says how the whole service fares."""
    return services.health.read()


@router.get("/v1/models", responses=responses())
async def models(services: ServicesDep) -> ModelList:
    """The model variants, their aliases and their caps."""
    return ModelList(
        default=services.models.default_model,
        models=[
            ModelView(
                id=name,
                aliases=list(aliases(name)),
                max_duration_seconds=duration_limit(services.models, services.limits, name),
                state=services.health.variant(name).state,
                message=services.health.variant(name).message,
            )
            for name in VARIANTS
        ],
    )
