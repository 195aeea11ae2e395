"""Resolve a client's request into an engine's: settle the model, the limits and the seed."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from sa_ray.catalogue import VARIANTS, VariantSpec, find_variant
from sa_ray.contracts import (
    MAX_SEED,
    RANDOM_SEED,
    EngineName,
    GenerationRequest,
    Lora,
    ResolvedRequest,
    Source,
    VariantName,
    fields_only_a_model_has,
)
from sa_ray.contracts.access import Caller
from sa_ray.errors import InvalidRequestError, NotFoundError
from sa_ray.serving.ingress.edits import Edit, edit_of, length_told, source_field
from sa_ray.serving.ingress.output_rules import require_possible_output
from sa_ray.settings import LimitSettings, ModelSettings, duration_limit

if TYPE_CHECKING:  # the command line resolves requests too, and loads no Ray for that
    from sa_ray.serving.ingress.services import Services


def draw_seed() -> int:
    """Draw a seed over the full 32-bit range."""
    return secrets.randbelow(MAX_SEED + 1)


async def settle(
    request: GenerationRequest, services: "Services", caller: Caller
) -> ResolvedRequest:
    """Resolve ``request`` of ``caller`` with the settings of the service and the upload that it
    names.

    Raises as ``resolve`` does, also where there is no such upload or adapter.
    """
    field = source_field(request)
    source = None
    if field is not None:
        upload_id = getattr(request, field)
        try:
            upload = await services.uploads.find(upload_id, caller)
        except NotFoundError:
            raise InvalidRequestError(
                f"{field}: there is no upload {upload_id}. It may have expired: send the audio "
                "again with POST /v1/uploads. The same file gets the same id.",
                param=field,
            ) from None
        kept = upload.model_dump(include={"object", "marked", "seconds"})
        source = Source(upload_id=upload.id, **kept)
    loras: tuple[Lora, ...] = ()
    if request.loras and services.engine != "procedural":  # which refuses them
        variant = _variant(request.model, services.models)
        loras = await services.adapters.resolved(request.loras, variant)
    models, limits = services.models, services.limits
    return resolve(request, models, limits, services.engine, source=source, loras=loras)


def resolve(
    request: GenerationRequest,
    models: ModelSettings,
    limits: LimitSettings,
    engine: EngineName,
    draw: Callable[[], int] = draw_seed,
    source: Source | None = None,
    loras: tuple[Lora, ...] = (),
) -> ResolvedRequest:
    """Settle every choice. Raises ``InvalidRequestError`` naming the field, the limit, the fix.

    ``source``: the upload that ``request`` names. ``loras``: the adapters that it names.
    """
    variant = _variant(request.model, models)
    request = _with_defaults(request, models.spec(variant))
    edit = edit_of(request, source)
    _require_allowed_length(request, edit, variant, models, limits)
    if request.steps > limits.max_steps:
        raise InvalidRequestError(
            f"steps is {request.steps}, but at most {limits.max_steps} are allowed here "
            "(STABLE_AUDIO_MAX_STEPS). Ask for fewer.",
            param="steps",
        )
    if engine == "procedural":
        _refuse_what_only_a_model_has(request)
    require_possible_output(request, edit.duration)
    chosen = {
        "model": variant,
        "negative_prompt": request.negative_prompt or None,
        "seed": draw() if request.seed == RANDOM_SEED else request.seed,
        "duration": edit.duration,
        "loras": loras,
        **dict(edit.fields),
    }
    if edit.fields.regions and "normalize" not in request.model_fields_set:
        # What is kept stays as it is, its peaks too; the engine limits what it makes.
        chosen["normalize"] = "none"
    shared = request.model_dump(include=set(ResolvedRequest.model_fields))
    return ResolvedRequest.model_validate(shared | chosen)


def _with_defaults(request: GenerationRequest, spec: VariantSpec) -> GenerationRequest:
    """Return ``request`` with the model's own steps and guidance scale where it names none."""
    defaults = {"steps": spec.steps, "cfg_scale": spec.cfg_scale}
    missing = {name: defaults[name] for name in defaults.keys() - request.model_fields_set}
    return request.model_copy(update=missing)


def _require_allowed_length(
    request: GenerationRequest,
    edit: Edit,
    variant: VariantName,
    models: ModelSettings,
    limits: LimitSettings,
) -> None:
    limit = duration_limit(models, limits, variant)
    if edit.duration > limit:
        raise InvalidRequestError(
            f"{length_told(request, edit.duration)}, but {variant} makes at most {limit:g} s here. "
            f"Ask for a duration of {limit:g} or less{_longer_than(limit, models, limits)}.",
            param="duration",
        )


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
        if getattr(request, name) != GenerationRequest.model_fields[name].default:
            raise InvalidRequestError(
                f"{name} is a choice of Stable Audio 3, but the procedural engine answers here. "
                "Leave it out.",
                param=name,
            )


def _longer_than(limit: float, models: ModelSettings, limits: LimitSettings) -> str:
    longer = [name for name in VARIANTS if duration_limit(models, limits, name) > limit]
    return f", or another model ({', '.join(longer)})" if longer else ""
