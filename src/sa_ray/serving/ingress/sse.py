"""A job's changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from sa_ray.contracts import JobView
from sa_ray.errors import SaRayError
from sa_ray.jobs import JobChange, JobSnapshot

logger = logging.getLogger(__name__)


class EventStream(EventSourceResponse):
    """Answers with ``events``, and ends ``changes`` whether or not any of them was sent."""

    def __init__(self, changes: AsyncGenerator[Any, None], events: AsyncIterable[bytes]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._changes.aclose()


async def job_events(
    now: JobChange | None,
    later: AsyncGenerator[JobChange | None, None],
    after: str | None,
    view: Callable[[JobSnapshot], Awaitable[JobView]],
) -> AsyncGenerator[bytes, None]:
    """Yield an event for each change; a comment for each None, and for ``now`` if its id is
    ``after``.

    Events are named by status, except ``progress`` for a running job. The data is the job; the id
    is what the stream resumes from. Ends without a final event if the job cannot be watched on:
    the head is sent, and clients ask again, as after any stream that was cut.
    """
    async with aclosing(later):
        yield await _event(None if now and now.event_id == after else now, view)
        try:
            async for change in later:
                yield await _event(change, view)
        except SaRayError as error:
            logger.warning("a stream of events was cut: %s", error.message)


async def _event(
    change: JobChange | None, view: Callable[[JobSnapshot], Awaitable[JobView]]
) -> bytes:
    if change is None:
        return KEEPALIVE_COMMENT
    status = change.snapshot.job.status
    shown = await view(change.snapshot)
    return format_sse_event(
        id=change.event_id,
        event="progress" if status == "running" else status,
        data_str=shown.model_dump_json(),
    )
