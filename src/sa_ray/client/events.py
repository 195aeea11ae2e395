"""Follow a job by its server-sent events, also over streams that are cut."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import httpx
from httpx_sse import ServerSentEvent

from sa_ray.client.calls import Call
from sa_ray.contracts import FINAL_STATUSES, HEARTBEAT_S, ListedJob

EventType = Literal["queued", "progress", "succeeded", "failed", "cancelled"]

RECONNECT_S: Final = 1.0
"""Pause after a stream that was cut."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A change of a job, which runs while ``type`` is ``progress``."""

    id: str
    """What ``events`` takes as ``after``, to go on behind this one."""
    type: EventType
    job: ListedJob
    """The job since the change; null for its prompts."""


class Feed:
    """The events of one job: what to ask for next, and whether there are more."""

    def __init__(self, job_id: str, after: str | None) -> None:
        self.ended = False
        self._path = f"/jobs/{job_id}/events"
        self._after = after

    def call(self) -> Call[None]:
        """Return the call that is answered with what has happened since the last event."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._after:
            headers["Last-Event-ID"] = self._after
        return Call(path=self._path, read=lambda _: None, headers=headers, silence_s=HEARTBEAT_S)

    def begins(self, response: httpx.Response) -> bool:
        """Return whether events follow; none do once the last one was seen."""
        self.ended = response.status_code == httpx.codes.NO_CONTENT
        return not self.ended

    def take(self, told: ServerSentEvent) -> JobEvent | None:
        """Return an event, or None for a comment and what a later release may have added."""
        for kind in get_args(EventType):
            if told.event == kind and told.data:
                job = ListedJob.model_validate_json(told.data)
                self._after = told.id
                self.ended = job.status in FINAL_STATUSES
                return JobEvent(told.id, kind, job)
        return None
