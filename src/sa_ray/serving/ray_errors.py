"""Translate exceptions from other processes: the side at fault, and what to say of it."""

import logging

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)

from sa_ray.contracts import VariantName
from sa_ray.errors import InfrastructureError, OverloadedError, SaRayError, UnavailableError

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""Seconds that clients of a busy or restarting variant are told to wait, about one batch."""


def cannot_serve(variant: VariantName) -> UnavailableError:
    """Return the error of a variant that has no replica and gets none."""
    return UnavailableError(
        f"{variant} cannot serve now: no replica of it can be started. GET /health says why. Try "
        "again later, or ask for another model.",
        param="model",
        retry_after_s=RETRY_AFTER_S,
    )


def translate(error: Exception) -> SaRayError:
    """Return our own error for ``error``, which a remote call raised.

    Ray wraps what a remote method raised in a ``RayTaskError``; any other error of Ray means that
    the call was not carried out. An exception of no known kind is a bug: it is logged here in full,
    and the caller is told only that it happened.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    match cause:
        case SaRayError():
            return cause
        case BackPressureError():
            return OverloadedError(
                "Every slot and queue place of this model is taken. Try again later, or submit a "
                "job with POST /jobs, which waits in a durable queue.",
                retry_after_s=RETRY_AFTER_S,
            )
        case DeploymentUnavailableError():
            return UnavailableError(
                "This model cannot serve now; GET /health says why.", retry_after_s=RETRY_AFTER_S
            )
        case RayError() | RayServeException() | StopAsyncIteration():
            return InfrastructureError(
                f"A process or node was lost during the work ({type(cause).__name__}).",
                retry_after_s=RETRY_AFTER_S,
            )
    logger.error("unexpected error from a remote call", exc_info=error)
    return SaRayError("An error in the service; its log says more.")
