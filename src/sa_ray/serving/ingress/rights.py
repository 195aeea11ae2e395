"""What a caller may name in a request: models, priorities, webhooks."""

from sa_ray.contracts import GenerationRequest, JobRequest, VariantName
from sa_ray.contracts.access import Caller
from sa_ray.errors import NotPermittedError


def require_rights(caller: Caller, request: GenerationRequest, model: VariantName) -> None:
    """Raise ``NotPermittedError``, which names the field, if the key may not ask for ``request``.

    ``model``: the one that it stands for.
    """
    rights = caller.rights
    if rights.models is not None and model not in rights.models:
        allowed = ", ".join(sorted(rights.models))
        raise NotPermittedError(
            f"model: the key {caller.name} may use {allowed}, but not {model}. Name one of those.",
            param="model",
        )
    if not isinstance(request, JobRequest):
        return
    if rights.priorities is not None and request.priority not in rights.priorities:
        allowed = ", ".join(sorted(rights.priorities))
        raise NotPermittedError(
            f"priority: the key {caller.name} may use {allowed}, but not {request.priority}. Name "
            "one of those.",
            param="priority",
        )
    if request.webhook_url is not None and not rights.webhooks:
        raise NotPermittedError(
            f"webhook_url: the key {caller.name} may not have webhooks called. Leave it out, and "
            "poll or follow /jobs/{id}/events.",
            param="webhook_url",
        )
