"""Audio of clients on its way through the uploader: little of it at once, nothing held up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest

from sa_ray.contracts import ReadAudio, Upload
from sa_ray.errors import InfrastructureError
from sa_ray.serving.actors.uploader import MAX_CONCURRENT_INPUTS, Uploader
from sa_ray.settings import load_settings

READ = ReadAudio(frames=44_100, sample_rate=44_100, channels=2, format="wav")


class Reference:
    """Audio on another node, which arrives when ``there`` is set. Stands for Ray's."""

    asked = 0

    def __init__(self, there: asyncio.Event) -> None:
        self._there = there

    def __await__(self) -> Generator[Any, None, bytes]:
        Reference.asked += 1
        yield from self._there.wait().__await__()
        return b"fLaC"


@pytest.fixture
async def uploader(tmp_path: Path) -> AsyncIterator[Uploader]:
    settings = load_settings({"storage_bucket": "", "output_dir": tmp_path}).storage
    opened = Uploader.__new__(Uploader)
    await opened.__init__(settings, "fingerprint")  # type: ignore[misc] # as Ray does
    yield opened
    opened._checker.cancel()


def keep(uploader: Uploader, number: int, there: asyncio.Event) -> "asyncio.Task[Upload]":
    audio: Any = [Reference(there)]
    return asyncio.create_task(uploader.keep_input(f"{number:064x}", READ, 100, audio))


async def test_only_as_much_arrives_as_is_stored_at_once(uploader: Uploader) -> None:
    Reference.asked, there = 0, asyncio.Event()

    works = [keep(uploader, number, there) for number in range(MAX_CONCURRENT_INPUTS + 3)]
    for _ in range(10):
        await asyncio.sleep(0)

    assert Reference.asked == MAX_CONCURRENT_INPUTS
    there.set()
    assert len(await asyncio.gather(*works)) == MAX_CONCURRENT_INPUTS + 3


async def test_audio_that_never_arrives_holds_up_no_other(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa_ray.storage.uploads.FETCH_TIMEOUT_S", 0.05)
    lost = [keep(uploader, number, asyncio.Event()) for number in range(MAX_CONCURRENT_INPUTS)]
    there = asyncio.Event()
    there.set()

    async with asyncio.timeout(10):
        kept = await keep(uploader, MAX_CONCURRENT_INPUTS, there)
        ends = await asyncio.gather(*lost, return_exceptions=True)

    assert kept.object.size == len(b"fLaC")
    assert {type(end) for end in ends} == {InfrastructureError}


async def test_a_sweep_does_not_hold_up_clients(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, there = threading.Event(), asyncio.Event()
    there.set()
    monkeypatch.setattr(uploader._inputs, "due", lambda: gate.wait(20) and [])
    sweeps = [asyncio.create_task(uploader.due_inputs()) for _ in range(MAX_CONCURRENT_INPUTS)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(5):
            await keep(uploader, 1, there)
    finally:
        gate.set()
        await asyncio.gather(*sweeps)
