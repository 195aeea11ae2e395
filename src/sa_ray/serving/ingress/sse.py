"""A job's changes as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncGenerator, Callable

from sa_ray.contracts import FINAL_STATUSES, JobView
from sa_ray.jobs import JobChange, JobSnapshot
from sa_ray.serving.actors import JobsClient

HEARTBEAT_S = 15.0
"""Seconds of silence after which a comment is sent: proxies cut connections silent for a minute."""

MEDIA_TYPE = "text/event-stream"


async def job_events(
    jobs: JobsClient, change: JobChange, after: str | None, view: Callable[[JobSnapshot], JobView]
) -> AsyncGenerator[str, None]:
    """Yield an event for ``change`` and for every change that follows; end with the job.

    The first is left out if its id is ``after``. Events are named by status, except ``progress``
    for a running job. The data is the job; the id is what the stream resumes from.
    """
    while True:
        if change.event_id == after:
            yield ": still here\n\n"
        else:
            yield _event(change, view)
        if change.snapshot.job.status in FINAL_STATUSES:
            return
        after = change.event_id
        change = await jobs.changes(change.snapshot.job.id, after, HEARTBEAT_S)


def _event(change: JobChange, view: Callable[[JobSnapshot], JobView]) -> str:
    status = change.snapshot.job.status
    name = "progress" if status == "running" else status
    data = view(change.snapshot).model_dump_json()
    return f"id: {change.event_id}\nevent: {name}\ndata: {data}\n\n"
