"""Bound what one owner may have queued, and have made in a day."""

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from sa_ray.errors import InvalidRequestError, RateLimitedError, SaRayError
from sa_ray.jobs.allowance import Allowance
from sa_ray.jobs.api import JobOptions, Submission
from sa_ray.jobs.usage import day_of

RETRY_AFTER_S = 10

ROUNDING_S = 1e-6
"""Sums of seconds are so exact."""

FRESH_S = 1.0
"""Age of a count after which it is made anew: others may have added to it."""


class OwnerLimits:
    """Keeps the limits that options name (``JobOptions``), also of submits at the same moment.

    ``queued_of(owner)`` counts queued jobs, ``seconds_of(owner, day)`` the audio seconds accepted
    on a day of UTC. ``clock`` returns Unix seconds. For one event loop.
    """

    def __init__(
        self,
        queued_of: Callable[[str], Awaitable[int]],
        seconds_of: Callable[[str, str], Awaitable[float]],
        clock: Callable[[], float],
    ) -> None:
        self._queued_of = queued_of
        self._seconds_of = seconds_of
        self._clock = clock
        self._places = defaultdict[str, Allowance](partial(Allowance, FRESH_S))
        self._days = defaultdict[str, Allowance](partial(Allowance, FRESH_S))

    @asynccontextmanager
    async def place(self, one: Submission) -> AsyncIterator[None]:
        """Hold what the job takes of its owner's limits, while the block stores it.

        Raises ``RateLimitedError``, or ``InvalidRequestError`` if it is more than a whole day's.
        """
        async with AsyncExitStack() as held:
            if one.options.max_queued is not None:
                await held.enter_async_context(self._place(one.options, one.options.max_queued))
            if one.options.max_seconds is not None:
                wanted = one.request.duration * one.request.n
                day = self._seconds(one.options, one.options.max_seconds, wanted)
                await held.enter_async_context(day)
            yield

    def _place(self, options: JobOptions, limit: int) -> AbstractAsyncContextManager[None]:
        owner = options.owner

        def refused(_: float) -> SaRayError:
            return RateLimitedError(
                f"{limit} jobs of the key {owner} are queued, the most that it may have "
                f"(queued_jobs). Try again in {RETRY_AFTER_S} s.",
                retry_after_s=RETRY_AFTER_S,
            )

        return self._places[owner].hold(1, limit, lambda: self._queued_of(owner), refused)

    def _seconds(
        self, options: JobOptions, limit: float, wanted: float
    ) -> AbstractAsyncContextManager[None]:
        owner, now = options.owner, self._clock()

        async def used() -> float:
            return options.unreported_seconds + await self._seconds_of(owner, day_of(now))

        def refused(left: float) -> SaRayError:
            return day_used_up(owner, limit, left, wanted, now)

        return self._days[owner].hold(wanted, limit + ROUNDING_S, used, refused)


def day_used_up(owner: str, limit: float, left: float, wanted: float, now: float) -> SaRayError:
    """Return the error for ``wanted`` seconds of audio where ``left`` of ``limit`` are left.

    ``now``: Unix seconds.
    """
    asked = f"duration: this is {wanted:g} s of audio, and the key {owner}"
    if wanted > limit:
        return InvalidRequestError(
            f"{asked} may have {limit:g} s made in a day (audio_seconds_per_day). Ask for less.",
            param="duration",
        )
    seconds = _until_tomorrow(now)
    return RateLimitedError(
        f"{asked} has {max(0.0, left):g} s of its {limit:g} s left today, in UTC "
        f"(audio_seconds_per_day). Ask for less, or again in {seconds} s.",
        param="duration",
        retry_after_s=seconds,
    )


def _until_tomorrow(now: float) -> int:
    """Return the seconds until the next day of UTC, rounded up."""
    at = datetime.fromtimestamp(now, UTC)
    midnight = datetime.combine(at.date() + timedelta(days=1), datetime.min.time(), UTC)
    return max(1, math.ceil((midnight - at).total_seconds()))
