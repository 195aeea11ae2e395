"""Answers to Stability's clients that take long to write down."""

import base64
import json
import threading
from collections.abc import AsyncIterator

import pytest
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from sa_ray.serving.ingress.compat.stability_answers import made_sync


async def clip() -> AsyncIterator[bytes]:
    yield b"so"
    yield b"und"


@pytest.mark.parametrize("in_pieces", [True, False])
async def test_base64_is_made_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, in_pieces: bool
) -> None:
    encode = base64.b64encode
    threads: list[int] = []

    def watched(data: bytes) -> bytes:
        threads.append(threading.get_ident())
        return encode(data)

    monkeypatch.setattr(base64, "b64encode", watched)
    http = Request({"type": "http", "headers": [(b"accept", b"application/json")]})
    headers = {"X-Seed": "5"}
    made = (
        StreamingResponse(clip(), headers=headers)
        if in_pieces
        else Response(memoryview(b"sound"), headers=headers)
    )
    answer = await made_sync(made, http)

    told = json.loads(bytes(answer.body))
    assert (base64.b64decode(told["audio"]), told["seed"]) == (b"sound", 5)
    assert len(threads) == 1
    assert threads != [threading.get_ident()]
