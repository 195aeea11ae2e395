"""How much audio a key may have made in a day, for clients that wait; of jobs, ``OwnerLimits``."""

import asyncio
import logging
import time

from sa_ray.contracts import ResolvedRequest
from sa_ray.contracts.access import Caller
from sa_ray.errors import SaRayError
from sa_ray.jobs.owner_limits import ROUNDING_S, day_used_up
from sa_ray.jobs.usage import day_of
from sa_ray.serving.ingress.services import Services

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0


async def require_audio(services: Services, caller: Caller, request: ResolvedRequest) -> None:
    """Raise ``RateLimitedError`` if ``request`` is more than what is left of the key's day, or
    ``InvalidRequestError`` if it is more than a whole one.

    It passes where the job actor does not answer: a limit is no reason to be down. Replicas learn
    of each other's requests a moment later, so a day can end a little over.
    """
    limit = caller.limits.audio_seconds_per_day
    if limit is None:
        return
    wanted, now = request.duration * request.n, time.time()
    if wanted > limit:
        raise day_used_up(caller.name, limit, limit, wanted, now)
    try:
        async with asyncio.timeout(PATIENCE_S):
            used = await services.jobs.audio_seconds(caller.name, day_of(now))
    except (SaRayError, TimeoutError) as error:
        kind = type(error).__name__
        logger.warning("audio of %s is not limited for now: %s: %s", caller.name, kind, error)
        return
    # After the wait: nothing else waits before the request is counted itself.
    used += services.generation.accepted_seconds(caller.name, day_of(now))
    if used + wanted > limit + ROUNDING_S:
        raise day_used_up(caller.name, limit, limit - used, wanted, now)
