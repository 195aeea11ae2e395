"""Files that never end, come slowly, or are no audio, from many addresses at once."""

import contextlib
import io
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import httpx
import numpy as np
import pytest
import soundfile as sf

from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest
from sa_ray.serving.streamed_bodies import MAX_AT_ONCE

from .conftest import Target
from .raw import PATIENCE_S, Answer, answer, chunked, flood, memory_of, opened
from .test_mutated_audio import OF_EACH, mutants

pytestmark = pytest.mark.attack

HEAD = b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
HELD_BY = ("haproxy", "ingress")
MOST_MIB = 50
"""That a process may grow by."""


def tone() -> bytes:
    file = io.BytesIO()
    sf.write(file, 0.5 * np.sin(np.arange(44_100) / 16), 44_100, format="WAV")
    return file.getvalue()


def from_address(number: int, port: int, data: bytes) -> socket.socket:
    """A connection from an address of its own to which ``data`` has been sent."""
    source = (f"127.0.1.{number}", 0)
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=source)
    connection.sendall(data)
    return connection


def test_slow_files_from_many_addresses_keep_nobody_out(target: Target) -> None:
    port = target.service.port
    before = memory_of(target.processes, *HELD_BY)
    begun = HEAD + b"Content-Length: 50000000\r\n\r\nRIFF" + bytes(100_000)
    with contextlib.ExitStack() as held:
        slow = [
            held.enter_context(from_address(number, port, begun))
            for number in range(1, 4 * MAX_AT_ONCE)
        ]
        with Client(target.service.base_url, timeout_s=30) as client:
            upload = client.upload(tone())
            job = client.wait(client.submit(GenerationRequest(prompt="a bell", duration=1)).id)
            health = client.health()
        answers = [answer(connection) for connection in slow]
    after = memory_of(target.processes, *HELD_BY)

    assert upload.seconds == 1
    assert (health.status, job.status) == ("ok", "succeeded")
    # Too many at once, or too slow.
    assert {one.status for one in answers} <= {408, 429}
    assert all("retry-after" in one.headers for one in answers)
    assert all(after[kind] - before[kind] < 2 * MOST_MIB for kind in HELD_BY), (before, after)


def test_endless_files_are_refused_and_not_kept(target: Target) -> None:
    def refused() -> Answer:
        head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        with opened(target.service.port, head) as connection:
            flood(connection, chunked(300))
            return answer(connection)

    refusals = [refused()]
    # What the first leaves behind is room for the next ones.
    before = memory_of(target.processes, *HELD_BY)
    refusals += [refused() for _ in range(4)]
    after = memory_of(target.processes, *HELD_BY)

    assert {refusal.status for refusal in refusals} == {413}
    assert "STABLE_AUDIO_MAX_UPLOAD_MB" in refusals[0].error["message"]
    assert all(after[kind] - before[kind] < MOST_MIB for kind in HELD_BY), (before, after)


def test_damaged_files_are_never_an_error_of_the_service(target: Target) -> None:
    with httpx.Client(base_url=target.service.base_url, timeout=PATIENCE_S) as http:

        def send(data: bytes) -> int:
            kind = {"Content-Type": "audio/wav"}
            return http.post("/v1/uploads", content=data, headers=kind).status_code

        with ThreadPoolExecutor(4) as threads:
            statuses = Counter(threads.map(send, islice(mutants(), 0, None, OF_EACH // 30)))
        health = http.get("/health").json()

    assert statuses.keys() == {201, 422}, statuses
    assert health["status"] == "ok"
