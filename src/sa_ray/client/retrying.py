"""Say which failures are tried again, and when: the rules of the clients' calls."""

from collections.abc import Callable
from typing import Any

import anyio
import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from sa_ray.client.wire import FOREIGN, LOST, NOT_DEPLOYED, ApiError

_BACKOFF = wait_random_exponential(multiplier=0.5, max=10)
"""Seconds up to which the pauses grow, each drawn between zero and its bound."""

_BUSY = (429, 503)
"""Statuses that promise that no work goes on: refused, or lost with its process."""

_BROKEN_PROXY = (500, 502, 504)
"""Statuses of proxies that lost the service, perhaps in the middle of the work."""

CUT = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
"""Errors of a connection that was lost or fell silent."""

Again = Callable[[BaseException], bool]
"""Whether a call that failed so is made once more."""


def refused(error: BaseException) -> bool:
    """Whether ``error`` may pass, and no work of the failed call goes on."""
    if isinstance(error, ApiError):
        return error.status in _BUSY or error.code == NOT_DEPLOYED or _unread(error)
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _unread(error: ApiError) -> bool:
    """Whether the body was not waited for; a request that took too long is told no pause."""
    return error.status == httpx.codes.REQUEST_TIMEOUT and error.retry_after_s is not None


def turned_away(error: BaseException) -> bool:
    """Whether ``error`` may pass, and nothing has come of the failed call at all."""
    if isinstance(error, ApiError) and error.status == httpx.codes.SERVICE_UNAVAILABLE:
        return error.code == NOT_DEPLOYED
    return refused(error)


def interrupted(error: BaseException) -> bool:
    """Whether ``error`` may pass, whatever became of the failed call."""
    if isinstance(error, ApiError) and error.status in _BROKEN_PROXY:
        return error.code in (FOREIGN, LOST)
    return refused(error) or isinstance(error, CUT)


def interrupted_not_crowded(error: BaseException) -> bool:
    """The same without 429, after which the caller asks for less."""
    return interrupted(error) and not crowded(error)


def crowded(error: BaseException) -> bool:
    """Whether the service has no room for this one now."""
    return isinstance(error, ApiError) and error.status == httpx.codes.TOO_MANY_REQUESTS


def room_in_s(error: ApiError, most_s: float) -> float:
    """Return the seconds after which there may be room. Raises ``error`` if that is not why."""
    if not crowded(error):
        raise error
    told = error.retry_after_s
    return most_s if told is None else min(max(told, 1), most_s)


def attempts(within_s: float, again: Again) -> Retrying:
    """Return what calls a function until it succeeds, or fails with an error not tried ``again``.

    Pauses last as long as ``Retry-After`` says, and grow where it says nothing. The last error is
    raised as soon as the next attempt would begin more than ``within_s`` seconds after the first.
    """
    return Retrying(**_rules(within_s, again))


def async_attempts(within_s: float, again: Again) -> AsyncRetrying:
    """Return the same for a coroutine function."""
    return AsyncRetrying(sleep=anyio.sleep, **_rules(within_s, again))


def _rules(within_s: float, again: Again) -> dict[str, Any]:
    return {
        "retry": retry_if_exception(again),
        "wait": _pause_s,
        "stop": stop_before_delay(within_s),
        "reraise": True,
    }


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after_s if isinstance(error, ApiError) else None
    # Spread, so that clients who were told the same do not all come back at once.
    return (told or 0) + _BACKOFF(state)
