"""System routes: the models, what goes with them, and the health of the service."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from sa_ray.catalogue import VARIANTS, aliases
from sa_ray.contracts import (
    Health,
    HealthStatus,
    LoraList,
    ModelList,
    ModelView,
    PresetList,
    VariantName,
)
from sa_ray.errors import InvalidRequestError, ObjectStoreError
from sa_ray.presets import presets
from sa_ray.serving.client_address import is_local
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.services import Services, ServicesDep
from sa_ray.settings import duration_limit

router = APIRouter(tags=["system"])


@router.get("/health", responses=responses())
async def health(services: ServicesDep, http: Request) -> Health | HealthStatus:
    """Answers 200 as long as this process can; `status` says how the whole service fares.

    The details are for keys with the scope `admin`, and where there are no keys for requests from
    the same machine, unless `STABLE_AUDIO_HEALTH_DETAILS` says otherwise.
    """
    health = services.health.read()
    return health if _tells(services, http) else HealthStatus(status=health.status)


@router.get("/v1/models", responses=responses())
async def models(services: ServicesDep, http: Request) -> ModelList:
    """The model variants, their aliases, caps and defaults."""
    tells = _tells(services, http)
    specs = {name: services.models.spec(name) for name in VARIANTS}
    return ModelList(
        default=services.models.default_model,
        engine=services.engine,
        max_steps=services.limits.max_steps,
        models=[
            ModelView(
                id=name,
                aliases=list(aliases(name)),
                max_duration_seconds=duration_limit(services.models, services.limits, name),
                default_steps=specs[name].steps,
                default_cfg_scale=specs[name].cfg_scale,
                state=services.health.variant(name).state,
                message=services.health.variant(name).message if tells else None,
            )
            for name in VARIANTS
        ],
    )


@router.get("/v1/presets", responses=responses(InvalidRequestError))
async def list_presets(
    model: Annotated[
        VariantName | None, Query(description="Only presets that this variant is made for.")
    ] = None,
) -> PresetList:
    """Prompts to begin with: give `prompt` and `duration` to one of `models`."""
    return PresetList(presets=[one for one in presets() if model is None or model in one.models])


@router.get("/v1/loras", responses=responses(InvalidRequestError, ObjectStoreError))
async def list_loras(
    services: ServicesDep,
    model: Annotated[
        VariantName | None, Query(description="Only adapters of this variant.")
    ] = None,
) -> LoraList:
    """Adapters (LoRA) that requests can name in `loras`."""
    variants = VARIANTS if model is None else (model,)
    found = [await services.adapters.listed(name) for name in variants]
    return LoraList(loras=[one for of_variant in found for one in of_variant])


def _tells(services: Services, http: Request) -> bool:
    """Return whether the client may read more than how the service fares."""
    if services.limits.health_details == "everyone":
        return True
    return caller_of(http).may("admin") and (services.keyring.has_keys or is_local(http.scope))
