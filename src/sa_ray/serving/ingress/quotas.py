"""How much a key may have made: seconds of audio in a day, and jobs that wait."""

import asyncio
import logging
import math
from datetime import UTC, datetime, timedelta

from sa_ray.contracts import ResolvedRequest
from sa_ray.contracts.access import Caller
from sa_ray.errors import InvalidRequestError, RateLimitedError, SaRayError
from sa_ray.serving.ingress.services import Services

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 10

PATIENCE_S = 1.0


async def require_audio(services: Services, caller: Caller, request: ResolvedRequest) -> None:
    """Raise ``RateLimitedError`` if ``request`` is more than what is left of the key's day.

    Requests that come at the same moment do not know of each other: a day can end a little over.
    """
    limit = caller.limits.audio_seconds_per_day
    if limit is None:
        return
    wanted = request.duration * request.n
    if wanted > limit:
        raise InvalidRequestError(
            f"duration: this is {wanted:g} s of audio, and the key {caller.name} may have "
            f"{limit:g} s made in a day (audio_seconds_per_day). Ask for less.",
            param="duration",
        )
    now = datetime.now(UTC)
    day = now.date().isoformat()
    used = await services.jobs.audio_seconds(caller.name, day)
    # After the wait: nothing else waits before the request is counted itself.
    used += services.generation.accepted_seconds(caller.name, day)
    if used + wanted > limit:
        seconds = _until_tomorrow(now)
        raise RateLimitedError(
            f"duration: this is {wanted:g} s of audio, and the key {caller.name} has "
            f"{max(0.0, limit - used):g} s of its {limit:g} s left today, in UTC "
            f"(audio_seconds_per_day). Ask for less, or again in {seconds} s.",
            param="duration",
            retry_after_s=seconds,
        )


async def require_audio_now(services: Services, caller: Caller, request: ResolvedRequest) -> None:
    """Do as ``require_audio`` for a client that waits; let pass if the job actor does not answer:
    a limit is no reason to be down."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await require_audio(services, caller, request)
    except (RateLimitedError, InvalidRequestError):
        raise
    except (SaRayError, TimeoutError) as error:
        kind = type(error).__name__
        logger.warning("audio of %s is not limited for now: %s: %s", caller.name, kind, error)


async def require_place(services: Services, caller: Caller) -> None:
    """Raise ``RateLimitedError`` if as many jobs of the key are queued as it may have.

    Jobs that are submitted at the same moment do not know of each other.
    """
    limit = caller.limits.queued_jobs
    if limit is None:
        return
    if await services.jobs.queued_of(caller.name) >= limit:
        raise RateLimitedError(
            f"{limit} jobs of the key {caller.name} are queued, the most that it may have "
            f"(queued_jobs). Try again in {RETRY_AFTER_S} s.",
            retry_after_s=RETRY_AFTER_S,
        )


def _until_tomorrow(now: datetime) -> int:
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return max(1, math.ceil((midnight - now).total_seconds()))
