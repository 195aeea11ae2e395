"""Options of a job, from the request that submits it."""

import hashlib

from sa_ray.contracts import JobRequest
from sa_ray.contracts.access import ANYBODY, Caller
from sa_ray.errors import InvalidRequestError
from sa_ray.jobs import JobOptions
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.jobs.webhook_urls import webhook_url
from sa_ray.serving.ingress.edits import source_field
from sa_ray.telemetry import current_traceparent


def job_options(
    request: JobRequest,
    idempotency_key: str | None,
    webhooks: WebhookSecrets | None,
    caller: Caller = ANYBODY,
    work: float | None = None,
    unreported_seconds: float = 0.0,
) -> JobOptions:
    """Return the options of a job of ``caller``. ``webhooks``: None where no webhooks are called.
    ``work``, ``unreported_seconds``: as of ``JobOptions``.

    Raises ``InvalidRequestError`` for a webhook that can never be called.
    """
    secrets = [secret.get_secret_value() for secret in request.webhook_secret or ()]
    digest = sealed = None
    if request.webhook_url is not None:
        webhooks = _checked(request.webhook_url, webhooks)
        if secrets:
            digest = webhooks.digest(secrets)
            sealed = webhooks.seal(request.webhook_url, secrets)
    elif secrets:
        raise InvalidRequestError(
            "webhook_secret signs the calls of a webhook_url, and there is none. Name one, or "
            "leave the secret out.",
            param="webhook_secret",
        )
    return JobOptions(
        priority=request.priority,
        expires_in=request.expires_in,
        webhook_url=request.webhook_url,
        sealed_secrets=sealed,
        owner=caller.name,
        weight=caller.weight,
        work=work,
        traceparent=current_traceparent(),
        max_queued=caller.limits.queued_jobs,
        max_seconds=caller.limits.audio_seconds_per_day,
        unreported_seconds=unreported_seconds,
        idempotency_key=idempotency_key,
        fingerprint=_fingerprint(request, digest) if idempotency_key else None,
    )


def _checked(url: str, webhooks: WebhookSecrets | None) -> WebhookSecrets:
    if webhooks is None:
        raise InvalidRequestError(
            "webhook_url cannot be used here: STABLE_AUDIO_WEBHOOK_SECRET is not set. Leave it "
            "out and poll, or wait on /jobs/{id}/events.",
            param="webhook_url",
        )
    try:
        webhook_url(url)
    except ValueError as error:
        raise InvalidRequestError(f"webhook_url {error}.", param="webhook_url") from error
    return webhooks


def _fingerprint(request: JobRequest, secrets_digest: str | None) -> str:
    """Return a digest of what the client asked, before any choice (a seed) is made for it."""
    asked = request.model_dump_json(exclude_defaults=True, exclude={"webhook_secret"})
    if source_field(request):
        # Left out, these are not their defaults in an edit.
        asked += ",".join(sorted({"duration", "normalize"} & request.model_fields_set))
    return hashlib.sha256(f"{asked}{secrets_digest or ''}".encode()).hexdigest()
