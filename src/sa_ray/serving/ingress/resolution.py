"""Resolve a client's request into an engine's: settle the model, the limits and the seed."""

import secrets
from collections.abc import Callable

from sa_ray.catalogue import VARIANTS, find_variant
from sa_ray.contracts import (
    MAX_SEED,
    RANDOM_SEED,
    EngineName,
    GenerationRequest,
    ResolvedRequest,
    VariantName,
    fields_only_a_model_has,
)
from sa_ray.errors import InvalidRequestError
from sa_ray.serving.ingress.output_rules import require_possible_output
from sa_ray.settings import LimitSettings, ModelSettings, duration_limit


def draw_seed() -> int:
    """Draw a seed over the full 32-bit range."""
    return secrets.randbelow(MAX_SEED + 1)


def resolve(
    request: GenerationRequest,
    models: ModelSettings,
    limits: LimitSettings,
    engine: EngineName,
    draw: Callable[[], int] = draw_seed,
) -> ResolvedRequest:
    """Settle every choice. Raises ``InvalidRequestError`` naming the field, the limit, the fix."""
    variant = _variant(request.model, models)
    limit = duration_limit(models, limits, variant)
    if request.duration > limit:
        raise InvalidRequestError(
            f"duration is {request.duration:g} s, but {variant} makes at most {limit:g} s here. "
            f"Ask for {limit:g} or less{_longer_than(limit, models, limits)}.",
            param="duration",
        )
    if request.steps > limits.max_steps:
        raise InvalidRequestError(
            f"steps is {request.steps}, but at most {limits.max_steps} are allowed here "
            "(STABLE_AUDIO_MAX_STEPS). Ask for fewer.",
            param="steps",
        )
    if engine == "procedural":
        _refuse_what_only_a_model_has(request)
    require_possible_output(request)
    chosen = {
        "model": variant,
        "negative_prompt": request.negative_prompt or None,
        "seed": draw() if request.seed == RANDOM_SEED else request.seed,
    }
    shared = request.model_dump(include=set(ResolvedRequest.model_fields))
    return ResolvedRequest.model_validate(shared | chosen)


def _variant(name: str | None, models: ModelSettings) -> VariantName:
    if name is None:
        return models.default_model
    found = find_variant(name)
    if found is None:
        raise InvalidRequestError(
            f"model {name[:100]!r} is unknown. Choose one of {', '.join(VARIANTS)}, or their "
            "Hugging Face repo ids; GET /v1/models lists them.",
            param="model",
        )
    return found


def _refuse_what_only_a_model_has(request: GenerationRequest) -> None:
    for name in fields_only_a_model_has():
        if getattr(request, name) is not None:
            raise InvalidRequestError(
                f"{name} is a choice of Stable Audio 3, but the procedural engine answers here. "
                "Leave it out.",
                param=name,
            )


def _longer_than(limit: float, models: ModelSettings, limits: LimitSettings) -> str:
    longer = [name for name in VARIANTS if duration_limit(models, limits, name) > limit]
    return f", or another model ({', '.join(longer)})" if longer else ""
