"""Say which failures are tried again, and when: the rules of the client's calls."""

from collections.abc import Callable

import httpx
from tenacity import (
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
    return refused(error) or isinstance(
        error, httpx.NetworkError | httpx.TimeoutException | httpx.RemoteProtocolError
    )


def interrupted_not_crowded(error: BaseException) -> bool:
    """The same without 429, after which the caller asks for less."""
    crowded = isinstance(error, ApiError) and error.status == httpx.codes.TOO_MANY_REQUESTS
    return interrupted(error) and not crowded


def attempts(within_s: float, again: Callable[[BaseException], bool]) -> Retrying:
    """Return what calls a function until it succeeds, or fails with an error not tried ``again``.

    Pauses last as long as ``Retry-After`` says, and grow where it says nothing. The last error is
    raised as soon as the next attempt would begin more than ``within_s`` seconds after the first.
    """
    return Retrying(
        retry=retry_if_exception(again),
        wait=_pause_s,
        stop=stop_before_delay(within_s),
        reraise=True,
    )


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after_s if isinstance(error, ApiError) else None
    # Spread, so that clients who were told the same do not all come back at once.
    return (told or 0) + _BACKOFF(state)
