"""A job's changes on the wire, as browsers' EventSource reads them."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from sa_ray.contracts import JobView
from sa_ray.errors import SaRayError, UnavailableError
from sa_ray.jobs import JobChange, JobSnapshot, change_of, lifecycle
from sa_ray.serving.ingress.sse import EventStream, job_events
from sa_ray.serving.job_view import JobViews
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores
from tests.support.jobs import resolved

QUEUED = lifecycle.new_job("a" * 32, resolved(prompt="rain\non a roof"), 1000.0)


@pytest.fixture
def views(tmp_path: Path) -> JobViews:
    return JobViews(
        ObjectStores(load_settings({"storage_bucket": "", "output_dir": tmp_path}).storage)
    )


async def written(
    views: JobViews,
    now: JobChange,
    *later: JobChange | SaRayError | None,
    after: str | None = None,
) -> list[str]:
    async def view(snapshot: JobSnapshot) -> JobView:
        return await views.one(snapshot, "http://test")

    async def changes() -> AsyncGenerator[JobChange | None, None]:
        for change in later:
            if isinstance(change, SaRayError):
                raise change
            yield change

    return [chunk.decode() async for chunk in job_events(now, changes(), after, view)]


async def test_an_event_is_named_by_status_and_has_the_job_and_where_to_resume(
    views: JobViews,
) -> None:
    change = change_of(JobSnapshot(QUEUED, 3))

    [event] = await written(views, change)

    lines = event.split("\n")
    assert lines[0] == "event: queued"
    assert f"id: {change.event_id}" in lines
    assert lines[-2:] == ["", ""]
    [data] = [line for line in lines if line.startswith("data: ")]
    assert json.loads(data[6:])["queue_position"] == 3


async def test_silence_and_what_was_seen_already_are_a_comment(views: JobViews) -> None:
    change = change_of(JobSnapshot(QUEUED, 3))

    for chunk in await written(views, change, None, after=change.event_id):
        assert chunk.startswith(":")
        assert chunk.endswith("\n\n")


async def test_a_job_that_cannot_be_watched_on_ends_the_stream(views: JobViews) -> None:
    away = UnavailableError("The jobs actor is restarting.")
    change = change_of(JobSnapshot(QUEUED, 3))

    assert len(await written(views, change, None, away, change)) == 2


async def test_a_stream_whose_head_alone_is_sent_watches_no_longer(views: JobViews) -> None:
    ended = False

    async def changes() -> AsyncGenerator[JobChange | None, None]:
        nonlocal ended
        try:
            while True:
                yield None
        finally:
            ended = True

    async def view(snapshot: JobSnapshot) -> JobView:
        return await views.one(snapshot, "http://test")

    async def send(_message: Message) -> None:
        raise OSError

    async def receive() -> Message:
        return {"type": "http.request"}

    watching = changes()
    await anext(watching)
    stream = EventStream(watching, job_events(None, watching, None, view))

    with pytest.raises((ClientDisconnect, ExceptionGroup)):
        await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)

    assert ended
