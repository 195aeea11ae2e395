"""CPU time that one hostile request costs an ingress replica, each at the size that is taken.

The application runs in this process, without Ray, so that nothing else is counted; the prompt
parser of the procedural engine, which runs in a variant's replica, is measured by itself.

    python -m bench.request_costs
"""

import asyncio
import gc
import json
import logging
import platform
import sys
import time
from collections.abc import Callable, MutableMapping
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from sa_ray.contracts.generation import MAX_PROMPT_CHARS
from sa_ray.engines.procedural.prompt import read
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.serving.ingress import services
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.settings import load_settings

BODY_BYTES = 256 << 10
"""The limit of a body."""

HEADER_BYTES = 64 << 10
"""About what Serve's proxy takes of headers."""

ROUNDS = 5


def filled(start: str, piece: str, end: str) -> bytes:
    """``piece`` repeated between ``start`` and ``end``, up to the limit of a body."""
    room = BODY_BYTES - len((start + end).encode())
    return (start + piece * (room // len(piece.encode())) + end).encode()


def numbered(form: str) -> bytes:
    """An object of distinct fields, ``form`` applied to their numbers, up to the limit."""
    fields, size, number = [], 0, 0
    while size < BODY_BYTES - 100:
        fields.append(form % number)
        size += len(fields[-1]) + 1
        number += 1
    return ('{"prompt":"x",' + ",".join(fields) + "}").encode()


def nested(opening: str, closing: str, depth: int) -> bytes:
    return b'{"prompt":"x","a":' + (opening * depth + "0" + closing * depth).encode() + b"}"


BODIES: dict[str, bytes] = {
    "unknown fields": numbered('"%x":0'),
    "unknown fields of nearly the right name": numbered('"promt%d":0'),
    "unknown fields of 1,000 characters": numbered('"' + "x" * 1000 + '%d":0'),
    "one field, given again and again": filled('{"prompt":"x"', ',"prompt":1', "}"),
    "one unknown field as long as the body": filled('{"', "x", '":0}'),
    "a list of empty lists": filled('{"prompt":[', "[],", "0]}"),
    "a list of objects": filled('{"prompt":[', '{"a":0},', "0]}"),
    "lists, 900 deep": nested("[", "]", 900),
    "lists, as deep as the body is long": filled("", "[", ""),
    "objects, as deep as the body is long": filled("", '{"a":', ""),
    "a number of as many digits": filled('{"prompt":"x","seed":', "9", "}"),
    "numbers of 4,300 digits": filled('{"prompt":"x","seed":[', "9" * 4300 + ",", "0]}"),
    "a fraction of as many digits": filled('{"prompt":"x","duration":-0.', "9", "}"),
    "fractions of 700 digits": filled('{"prompt":[', "0." + "9" * 700 + ",", "0]}"),
    "a model's name as long as the body": filled('{"prompt":"x","model":"', "ß", '"}'),
    "a prompt of white space": filled('{"prompt":"x', " ", 'x"}'),
    "a prompt of escapes": filled('{"prompt":"', "\\u00e9", '"}'),
    "an address of letters that decompose": json.dumps(
        {"prompt": "x", "webhook_url": "http://" + "\ufdfa" * 2000}
    ).encode(),
}

HEADERS: dict[str, tuple[bytes, bytes]] = {
    "a cookie of escapes": (b"cookie", b'a="' + b"\\" * HEADER_BYTES + b'"'),
    "a cookie of digits": (b"cookie", b'a="' + b"\\1" * (HEADER_BYTES // 2) + b'"'),
    "cookies": (b"cookie", b"a=b;" * (HEADER_BYTES // 4)),
    "a type of parameters": (b"content-type", b"application/json" + b";a=b" * (HEADER_BYTES // 4)),
    "a prefix": (b"x-forwarded-prefix", b"/a" * (HEADER_BYTES // 2)),
    "a host": (b"host", b"a." * (HEADER_BYTES // 2)),
    "an origin": (b"origin", b"http://" + b"a." * (HEADER_BYTES // 2)),
    "a range": (b"range", b"bytes=" + b"0" * HEADER_BYTES + b"-"),
}

PROMPTS: dict[str, str] = {
    "white space after a number": "120" + " " * (MAX_PROMPT_CHARS - 4) + "x",
    "numbers": "120 " * (MAX_PROMPT_CHARS // 4),
    "a fraction": "120." + "1" * (MAX_PROMPT_CHARS - 4),
    "white space after a note": "a" + " " * (MAX_PROMPT_CHARS - 2) + "x",
    "notes": "a # " * (MAX_PROMPT_CHARS // 4),
    "one word": "x" * MAX_PROMPT_CHARS,
    "words of one letter": "s " * (MAX_PROMPT_CHARS // 2),
    "letters that grow in lower case": "İ" * MAX_PROMPT_CHARS,
}


def main() -> None:
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}, "
    )
    print(f"`{' '.join(sys.argv)}`\n\n| request | answer | CPU ms |\n| --- | --- | --- |")
    app = application()
    gc.freeze()  # as Serve does in a replica that has started
    with asyncio.Runner() as runner:
        for name, body in BODIES.items():
            show(name, *best(lambda body=body: runner.run(post(app, body))))
        for name, header in HEADERS.items():
            show(name, *best(lambda header=header: runner.run(post(app, b'{"prompt":1}', header))))
    for name, prompt in PROMPTS.items():
        show(f"prompt: {name}", *best(lambda prompt=prompt: read(prompt) and "read"))


def application() -> FastAPI:
    """The ingress application, with what its requests are refused by, and no service behind."""
    logging.disable()
    settings = load_settings({"engine": "procedural"})
    limited = SimpleNamespace(
        models=settings.models,
        limits=settings.limits,
        engine="procedural",
        webhooks=WebhookSecrets(["whsec_" + "A" * 32]),
    )
    app = build_http_app(settings.edge, settings.limits, allow_anonymous=True)

    async def of_this_process() -> Any:
        return limited

    app.dependency_overrides[services.of_this_replica] = of_this_process
    return app


async def post(app: FastAPI, body: bytes, *headers: tuple[bytes, bytes]) -> str:
    """Return the status and the size of the answer."""
    given = {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/jobs",
        "raw_path": b"/jobs",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "headers": list({**given, b"host": b"127.0.0.1:8000", **dict(headers)}.items()),
    }
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return f"{sent[0]['status']}, {sum(len(one.get('body', b'')) for one in sent)} bytes"


def best(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` returns, and the least CPU seconds that it took."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        answer = work()
        times.append(time.process_time() - start)
    return answer, min(times)


def show(name: str, answer: Any, seconds: float) -> None:
    print(f"| {name} | {answer} | {1000 * seconds:.1f} |")


if __name__ == "__main__":
    main()
