"""The error tree: a stable code, an HTTP status, and a message that a user can act on.

Every failure that reaches a caller is one of these, whichever layer raised it. The ingress
turns any of them into ``{"error": {"code", "message", "param", "request_id"}}``.
"""

from typing import Any, ClassVar


class SaRayError(Exception):
    """Base of everything this project raises on purpose.

    ``message`` names the field, the limit and the fix. ``param`` is the request field at fault, if
    one is. ``retry_after_s`` becomes the ``Retry-After`` header.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    told: ClassVar[str | None] = None
    """What clients are told in place of messages that name hosts, folders and settings of the
    service; None: the message."""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def public_message(self) -> str:
        """What the API's clients may read of it."""
        return self.message if self.told is None else self.told

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ drops keyword arguments, and these cross Ray processes.
        state = {"param": self.param, "retry_after_s": self.retry_after_s}
        return type(self), (self.message,), state


class ConfigurationError(SaRayError):
    """A setting is unknown, malformed or contradicts another; raised before anything starts."""

    code = "configuration_error"


class MalformedRequestError(SaRayError):
    code = "malformed_request"
    status = 400


class InvalidKeyError(SaRayError):
    """The request has no key, or one that is not valid: which of them is not told."""

    code = "invalid_api_key"
    status = 401


class AnonymousRefusedError(SaRayError):
    """There are no keys, and the client is on another machine."""

    code = "anonymous_refused"
    status = 403


class MissingScopeError(SaRayError):
    """The key is valid, but not for this route."""

    code = "missing_scope"
    status = 403


class NotPermittedError(SaRayError):
    """The key may not name this in a request."""

    code = "not_permitted"
    status = 403


class ForeignOriginError(SaRayError):
    """A web page of another origin asked for a change."""

    code = "foreign_origin"
    status = 403


class LinkExpiredError(SaRayError):
    """A signed link was used after its time."""

    code = "link_expired"
    status = 403


class NotFoundError(SaRayError):
    code = "not_found"
    status = 404


class JobNotFoundError(NotFoundError):
    code = "job_not_found"


class UploadNotFoundError(NotFoundError):
    """There is no such upload, or it has expired."""

    code = "upload_not_found"


class MethodNotAllowedError(SaRayError):
    code = "method_not_allowed"
    status = 405


class ConflictError(SaRayError):
    code = "conflict"
    status = 409


class JobNotReadyError(ConflictError):
    """The job has no audio: it has not finished yet, or it ended without a result."""

    code = "job_not_ready"


class IdempotencyConflictError(ConflictError):
    """The same idempotency key came with another request."""

    code = "idempotency_conflict"


class JobGoneError(SaRayError):
    """The job succeeded, but its stored audio is no longer there."""

    code = "audio_gone"
    status = 410


class ObjectElsewhereError(SaRayError):
    """The audio is in a store that the present settings do not reach."""

    code = "audio_elsewhere"
    status = 409
    told = (
        "The audio is in a store that the service does not reach with its present settings. The "
        "log of the service says where that is, and how its operator makes it reachable."
    )


class RequestTimeoutError(SaRayError):
    """The request came too slowly, or took longer than the cluster lets any take."""

    code = "request_timeout"
    status = 408


class PayloadTooLargeError(SaRayError):
    code = "payload_too_large"
    status = 413


class UnsupportedMediaTypeError(SaRayError):
    code = "unsupported_media_type"
    status = 415


class MisdirectedRequestError(SaRayError):
    """The request was sent to a name that is not this service's."""

    code = "misdirected_request"
    status = 421


class InvalidRequestError(SaRayError):
    code = "invalid_request"
    status = 422


class HeadersTooLargeError(SaRayError):
    code = "headers_too_large"
    status = 431


class OverloadedError(SaRayError):
    """Try again later: every slot for this kind of work is taken."""

    code = "overloaded"
    status = 429


class RateLimitedError(OverloadedError):
    """The key has used up what it may do for now."""

    code = "rate_limited"


class QueueFullError(OverloadedError):
    code = "queue_full"


class ServiceLostError(SaRayError):
    """The process that worked on the request is gone; what became of the work is not known."""

    code = "service_lost"
    status = 502


class UnavailableError(SaRayError):
    """The variant cannot serve at all (for example its weights failed to load)."""

    code = "unavailable"
    status = 503


class NotDeployedError(UnavailableError):
    """There is no service behind the proxy: it is being started, or was removed.

    Not 404, as Serve answers: whoever asks for a job meanwhile would take it for gone.
    """

    code = "not_deployed"


class StoreError(SaRayError):
    """A store refused, or could not be reached.

    ``transient`` says whether trying again can help (an outage) or not (a wrong secret).
    """

    code = "storage_unavailable"
    status = 503

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        transient: bool = True,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.transient = transient

    def __reduce__(self) -> tuple[Any, ...]:
        cls, args, state = super().__reduce__()
        return cls, args, state | {"transient": self.transient}


class JobStoreError(StoreError):
    """The store of jobs refused, or could not be reached."""

    told = "The store of jobs cannot be used now; the log of the service says why. Try again later."


class ObjectStoreError(StoreError):
    """The store of audio refused, or could not be reached."""

    told = (
        "The store of audio cannot be used now; the log of the service says why. Try again later."
    )


class UnwritableKeyError(ObjectStoreError):
    """The store can never hold an object at this key, however often it is tried."""

    told = (
        "The audio cannot be kept: the store takes no object with its name. The log of the service "
        "says why."
    )


class InfrastructureError(SaRayError):
    """A process, a node or an object was lost: the same request may succeed elsewhere."""

    code = "infrastructure_fault"
    status = 503


class ReplicaBrokenError(InfrastructureError):
    """The replica is about to be replaced, and has not touched the request."""


class GenerationError(SaRayError):
    """The engine failed on this request; the same request would fail again."""

    code = "generation_failed"


class StaleLeaseError(SaRayError):
    """A worker reported on a job whose lease it no longer holds; the report is refused."""

    code = "stale_lease"
    status = 409
