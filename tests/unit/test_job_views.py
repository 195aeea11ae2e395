"""Views of jobs, whose download URLs are signed with credentials that may be slow to come."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sa_ray.errors import ObjectStoreError
from sa_ray.jobs import JobSnapshot, lifecycle
from sa_ray.serving import job_view
from sa_ray.serving.job_view import JobViews
from sa_ray.settings import load_settings
from sa_ray.storage import ObjectStores
from tests.support.jobs import RESULT, resolved

CREDENTIALS = json.dumps({"Version": 1, "AccessKeyId": "key", "SecretAccessKey": "secret"})
STORED = RESULT.object.model_copy(update={"backend": "s3", "location": None})


def snapshot(number: int = 0) -> JobSnapshot:
    job = lifecycle.lease(lifecycle.new_job(f"{number:032x}", resolved(), 1.0), "w", 1.0)
    result = RESULT.model_copy(update={"object": STORED})
    return JobSnapshot(lifecycle.succeed(job, 1, result, 2.0), None)


class SlowCredentials:
    """Credentials that a process gives as soon as they are ``let`` come."""

    def __init__(self, pipe: Path) -> None:
        self._pipe = pipe
        self._let = threading.Event()
        self.in_time = True
        """Whether they were let come before the patience of this test was over."""
        self._thread = threading.Thread(target=self._give)
        self._thread.start()

    def let(self) -> None:
        self._let.set()

    def close(self) -> None:
        self.let()
        with os.fdopen(os.open(self._pipe, os.O_RDWR)):  # so that nobody waits at its other end
            self._thread.join()

    def _give(self) -> None:
        self.in_time = self._let.wait(20)
        self._pipe.write_text(CREDENTIALS)


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowCredentials]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat {pipe}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    slow = SlowCredentials(pipe)
    yield slow
    slow.close()


@pytest.fixture
def views(credentials: SlowCredentials) -> JobViews:
    settings = {"storage_bucket": "sounds", "storage_endpoint_url": "http://127.0.0.1:1"}
    return JobViews(ObjectStores(load_settings(settings).storage))


async def test_the_event_loop_goes_on_while_credentials_are_fetched(
    views: JobViews, credentials: SlowCredentials
) -> None:
    reading = asyncio.create_task(views.of([snapshot(1), snapshot(2)], "http://here"))
    await asyncio.sleep(0)
    credentials.let()

    seen = await reading

    assert credentials.in_time
    assert [view.download_url is not None for view in seen] == [True, True]


async def test_a_job_is_shown_without_an_address_if_it_cannot_be_signed_in_time(
    views: JobViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_view, "SIGNING_PATIENCE_S", 0.05)

    view = await views.one(snapshot(), "http://here")
    with pytest.raises(ObjectStoreError, match="credentials"):
        await views.url(STORED)

    assert view.status == "succeeded"
    assert view.download_url is None
