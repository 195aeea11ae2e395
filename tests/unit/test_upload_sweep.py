"""Uploads that have had their time are deleted, but not from under a job that has not ended."""

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest

from sa_ray.contracts import ReadAudio, Source, Upload
from sa_ray.errors import ObjectStoreError
from sa_ray.jobs import Submission
from sa_ray.jobs import sources as sources_module
from sa_ray.jobs.sources import sources_in_use
from sa_ray.serving.dispatcher.upload_sweep import UploadSweep
from sa_ray.settings import load_settings
from sa_ray.storage import Inputs, open_object_store
from tests.support.jobs import RESULT, resolved

from .dispatching import House, Tally, house, quickly

TTL_S = 10


class Uploader:
    """The uploads of the uploader as its clients see them, without an actor in between."""

    def __init__(self, folder: Path) -> None:
        settings = load_settings(
            {"storage_bucket": "", "output_dir": folder, "upload_ttl": TTL_S}
        ).storage
        self.later = 0.0
        self.inputs = Inputs(
            settings, open_object_store(settings), clock=lambda: time.time() + self.later
        )
        self.faults: list[Exception] = []
        self.swept = Tally()
        """What was due in each sweep."""

    def within(self, _timeout_s: float | None) -> Self:
        return self

    async def due_inputs(self) -> list[str]:
        if self.faults:
            raise self.faults.pop()
        due = self.inputs.due()
        if not due:
            self.swept.add([])
        return due

    async def sweep_inputs(self, due: Collection[str], pinned: Collection[str]) -> None:
        self.inputs.sweep(due, pinned)
        self.swept.add(sorted(due))

    def kept(self) -> Upload:
        read = ReadAudio(frames=44_100, sample_rate=44_100, channels=2, format="wav")
        return self.inputs.keep(uuid4().hex * 2, read, 100, b"fLaC")


async def made_from(home: House, upload: Upload) -> str:
    """Submit a job that is made from ``upload``."""
    source = Source(upload_id=upload.id, object=upload.object, seconds=upload.seconds)
    request = resolved().model_copy(update={"source": source})
    [snapshot] = await home.jobs.submit_all([Submission(uuid4().hex, request)])
    assert not isinstance(snapshot, Exception)
    return snapshot.job.id


async def sweeps(home: House, uploader: Uploader, count: int = 1, sweepers: int = 1) -> None:
    """Let ``sweepers`` work until there were ``count`` more sweeps."""
    sweep = UploadSweep(home.jobs, uploader, TTL_S, sleep=quickly)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(sweep.run()) for _ in range(sweepers)]
    await uploader.swept.reaches(len(uploader.swept) + count)
    for task in tasks:
        assert not task.done()
        task.cancel()


async def test_a_job_keeps_its_source_until_it_has_ended_however_often_it_is_tried(
    tmp_path: Path,
) -> None:
    uploader = Uploader(tmp_path / "uploaded")
    async with house(tmp_path) as home:
        pinned, unused = uploader.kept(), uploader.kept()
        job_id = await made_from(home, pinned)
        uploader.later = 3 * TTL_S

        await sweeps(home, uploader, count=6, sweepers=3)
        assert uploader.inputs.due() == [pinned.id]
        for _ in range(2):  # running, and queued again
            [job] = await home.jobs.lease("small-sfx", "worker", 1)
            assert job.id == job_id
            await sweeps(home, uploader)
            await home.jobs.release(job.id, job.token)
            await sweeps(home, uploader)
        assert uploader.inputs.due() == [pinned.id]

        [job] = await home.jobs.lease("small-sfx", "worker", 1)
        await home.jobs.succeed(job.id, job.token, RESULT)
        await sweeps(home, uploader, count=2)
        assert uploader.inputs.due() == []
        assert not list((tmp_path / "uploaded" / "uploads").iterdir())
        assert unused.id != pinned.id


async def test_a_sweep_goes_on_after_an_outage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uploader = Uploader(tmp_path / "uploaded")
    async with house(tmp_path) as home:
        uploader.kept()
        uploader.later = 3 * TTL_S
        uploader.faults = [ObjectStoreError("The bucket is away.")]

        await sweeps(home, uploader)

    assert "The bucket is away." in caplog.text
    assert uploader.inputs.due() == []


async def test_sources_are_found_on_every_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "PAGE", 2)
    uploader = Uploader(tmp_path / "uploaded")
    async with house(tmp_path) as home:
        uploads = [uploader.kept() for _ in range(5)]
        job_ids = [await made_from(home, upload) for upload in uploads]
        await home.submit()
        await home.jobs.lease("small-sfx", "worker", 2)

        found = await sources_in_use(home.jobs)

    assert found == {
        upload.object.key: job_id for upload, job_id in zip(uploads, job_ids, strict=True)
    }
