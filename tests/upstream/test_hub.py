"""What a replica says when the Hugging Face Hub refuses or cannot be reached."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from sa_ray.catalogue import CATALOGUE
from sa_ray.engines.port import EngineOptions
from sa_ray.engines.stable_audio.weights import find_snapshot
from sa_ray.errors import ConfigurationError, UnavailableError

pytestmark = pytest.mark.upstream


@contextmanager
def hub(status: int, error_code: str | None) -> Iterator[tuple[str, list[str | None]]]:
    """A Hub that answers everything with ``status``; yields its address and the tokens it saw."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            self.send_response(status)
            if error_code is not None:
                self.send_header("X-Error-Code", error_code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", tokens
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An empty cache, and no offline mode."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return monkeypatch


@pytest.mark.parametrize(
    ("status", "error_code", "token", "says"),
    [
        (403, "GatedRepo", "hf_mine", "accept the licence at .*stable-audio-3-small-sfx"),
        (401, "GatedRepo", None, "accept the licence at .*set HF_TOKEN"),
        (401, "RepoNotFound", None, "no token is set"),
        (401, "RepoNotFound", "hf_wrong", "refused the token in HF_TOKEN"),
        (404, "RevisionNotFound", "hf_mine", CATALOGUE["small-sfx"].revision),
    ],
)
def test_what_an_operator_must_change_is_said(
    online: pytest.MonkeyPatch, status: int, error_code: str, token: str | None, says: str
) -> None:
    with hub(status, error_code) as (address, tokens):
        online.setattr(huggingface_hub.constants, "ENDPOINT", address)
        with pytest.raises(ConfigurationError, match=says) as raised:
            find_snapshot("small-sfx", EngineOptions(hf_token=token))

    assert "hf_" not in raised.value.message.replace("hf_hub", "")
    if token is not None:
        assert f"Bearer {token}" in tokens


def test_a_failing_hub_may_work_later(online: pytest.MonkeyPatch) -> None:
    with hub(400, None) as (address, _):
        online.setattr(huggingface_hub.constants, "ENDPOINT", address)
        with pytest.raises(UnavailableError, match="status 400"):
            find_snapshot("small-sfx", EngineOptions())


def test_no_network_may_work_later(online: pytest.MonkeyPatch) -> None:
    with hub(500, None) as (address, _):
        pass
    online.setattr(huggingface_hub.constants, "ENDPOINT", address)

    with pytest.raises(UnavailableError, match="check the network"):
        find_snapshot("small-sfx", EngineOptions())


def test_a_token_is_not_shown() -> None:
    assert "hf_secret" not in repr(EngineOptions(hf_token="hf_secret"))
