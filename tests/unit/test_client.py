"""The Python client, against a server of the test's own that answers as it is told."""

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from sa_ray.client import ApiError, Client, ClipWarning
from sa_ray.contracts import GenerationRequest, HealthStatus, JobAccepted, JobRequest, JobView
from sa_ray.local import free_port

REQUEST = GenerationRequest(prompt="rain")
HOOK = "https://example.org/hook"
WEBHOOK_SECRET = "whsec_" + "A" * 32

JOB_ID = "0" * 32
ACCEPTED = {"id": JOB_ID, "status": "queued", "status_url": "http://x"}
VIEW: dict[str, Any] = {
    **dict.fromkeys(JobView.model_fields),
    "id": JOB_ID,
    "status": "succeeded",
    "status_url": "http://x",
    "model": "small-sfx",
    "prompt": "rain",
    "duration": 1,
    "steps": 8,
    "cfg_scale": 1,
    "seed": 1,
    "n": 1,
    "format": "wav",
    "created_at": "2026-01-01T00:00:00Z",
    "priority": "normal",
    "progress": 100,
    "attempts": 1,
    "cancel_requested": False,
    "storage_backend": "local",
    "results": [],
    "loras": [],
    "timings": {},
}


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Bytes of the answer after which the connection ends; None: all of them."""


def refusal(status: int, code: str, **headers: str) -> Answer:
    error = {"code": code, "message": "Not now.", "param": None, "request_id": "r"}
    return Answer(status, json.dumps({"error": error}).encode(), headers)


LOST = Answer(cut=0)
BUSY = refusal(429, "overloaded")
AWAY = refusal(503, "infrastructure_fault")
CROWDED_OUT = refusal(408, "request_timeout", **{"Retry-After": "0"})
TOOK_TOO_LONG = refusal(408, "request_timeout")
UNDEPLOYED = Answer(404, b"Path '/x' not found. Ping http://.../-/routes for available routes.")
BAD_GATEWAY = Answer(502, b"<html>Bad Gateway</html>")
UNDEPLOYED_NOW = refusal(503, "not_deployed")
SERVICE_LOST = refusal(502, "service_lost")


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    key: str | None
    body: Any = None
    authorization: str | None = None


class Server:
    """Answers with ``script``, one after the other, and notes what it is asked."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.seen: list[Seen] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                told = json.loads(body) if body else None
                key, sender = self.headers["Idempotency-Key"], self.headers["Authorization"]
                server.seen.append(Seen(self.command, self.path, key, told, sender))
                answer = server.script.pop(0)
                if answer.cut == 0:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, text in answer.headers.items():
                    self.send_header(name.replace("_", "-"), text)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[: answer.cut])

            do_POST = do_DELETE = do_GET  # noqa: N815 - as the base class wants them

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def asked(self, *script: Answer) -> "Server":
        self.script = list(script)
        return self


def serving() -> Iterator[Server]:
    server = Server()
    Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, timeout_s=5, retry_s=60) as client:
        yield client


def as_json(body: object) -> Answer:
    return Answer(body=json.dumps(body).encode())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_does_not_come_between_the_client_and_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: Server, host: str
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    server.asked(Answer(404, b"it is the server that answers"))

    with (
        Client(f"http://{host}:{server.http.server_port}", timeout_s=5) as client,
        pytest.raises(ApiError, match="the server that answers"),
    ):
        client.health()


def test_a_service_on_another_machine_tells_its_status_alone(server: Server) -> None:
    server.asked(as_json({"status": "degraded"}))

    with Client(server.url) as client:
        assert client.health() == HealthStatus(status="degraded")


def test_a_proxy_does_not_come_between_the_client_and_a_store_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    server.asked(Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    with Client("http://192.0.2.1", retry_s=0) as client:
        assert client.download(job, tmp_path / "clip") == 5


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    yield from serving()


def test_the_key_goes_with_every_call_to_the_service(server: Server, tmp_path: Path) -> None:
    server.asked(as_json({"status": "ok"}), as_json(ACCEPTED), Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    with Client(server.url, api_key="sar_mine") as client:
        client.health()
        client.submit(REQUEST)
        client.download(job, tmp_path / "clip")

    assert [seen.authorization for seen in server.seen] == ["Bearer sar_mine"] * 3


def test_the_key_is_taken_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_API_KEY", " sar_environment\n")
    for api_key in (None, "sar_given", ""):
        server.asked(as_json({"status": "ok"}))
        with Client(server.url, api_key=api_key) as client:
            client.health()

    assert [seen.authorization for seen in server.seen] == [
        "Bearer sar_environment", "Bearer sar_given", None
    ]  # fmt: skip


def test_the_key_does_not_go_to_a_store_on_the_same_host(
    server: Server, elsewhere: Server, tmp_path: Path
) -> None:
    """Whoever listened on another port there was sent what belongs to the service."""
    elsewhere.asked(Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{elsewhere.url}/bucket/clip?X-Sig=1"})

    with Client(server.url, api_key="sar_mine") as client:
        client.download(job, tmp_path / "clip")

    assert [seen.authorization for seen in elsewhere.seen] == [None]


def test_the_key_does_not_follow_a_redirect_to_elsewhere(
    server: Server, elsewhere: Server, tmp_path: Path
) -> None:
    server.asked(Answer(302, headers={"Location": f"{elsewhere.url}/bucket/clip"}))
    elsewhere.asked(Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    with Client(server.url, api_key="sar_mine") as client:
        client.download(job, tmp_path / "clip")

    assert [seen.authorization for seen in server.seen] == ["Bearer sar_mine"]
    assert [seen.authorization for seen in elsewhere.seen] == [None]


def test_a_wrong_key_is_said_at_once(server: Server) -> None:
    server.asked(refusal(401, "invalid_api_key"))

    with Client(server.url, api_key="sar_wrong") as client, pytest.raises(ApiError) as refused:
        client.models()

    assert refused.value.code == "invalid_api_key"
    assert len(server.seen) == 1


def test_a_clip_without_sound_makes_a_warning(server: Server, client: Client) -> None:
    server.asked(Answer(body=b"audio", headers={"X_Warning": "The clip is silent."}))

    with pytest.warns(ClipWarning, match="The clip is silent"):
        assert client.generate(REQUEST) == b"audio"


@pytest.mark.parametrize("refused", [BUSY, AWAY, CROWDED_OUT, UNDEPLOYED, UNDEPLOYED_NOW])
def test_what_the_service_refused_for_now_is_tried_again(
    server: Server, client: Client, refused: Answer
) -> None:
    server.asked(refused, refused, Answer(body=b"audio"))
    assert client.generate(REQUEST) == b"audio"

    server.asked(refused, as_json(ACCEPTED))
    assert client.submit(REQUEST).id == JOB_ID

    server.asked(refused, as_json(VIEW))
    assert client.job(JOB_ID).status == "succeeded"

    assert len(server.seen) == 7


@pytest.mark.parametrize("refused", [BUSY, UNDEPLOYED, UNDEPLOYED_NOW])
def test_a_cancellation_that_was_turned_away_is_tried_again(
    server: Server, client: Client, refused: Answer
) -> None:
    server.asked(refused, Answer(204))
    client.cancel(JOB_ID)
    assert len(server.seen) == 2


def test_a_cancellation_that_may_have_been_stored_is_not_repeated(
    server: Server, client: Client
) -> None:
    """A second one would delete the job and its audio."""
    server.asked(AWAY, Answer(204))

    with pytest.raises(ApiError) as error:
        client.cancel(JOB_ID)

    assert error.value.status == 503
    assert len(server.seen) == 1


@pytest.mark.parametrize("lost", [LOST, BAD_GATEWAY, SERVICE_LOST, TOOK_TOO_LONG])
@pytest.mark.parametrize("call", [lambda client: client.generate(REQUEST),
                                  lambda client: client.cancel(JOB_ID)])  # fmt: skip
def test_what_may_have_been_carried_out_is_not_done_twice(
    server: Server, client: Client, call: Callable[[Client], object], lost: Answer
) -> None:
    server.asked(lost, Answer(body=b"audio"))

    with pytest.raises((ApiError, httpx.RemoteProtocolError)):
        call(client)

    assert len(server.seen) == 1


@pytest.mark.parametrize("lost", [LOST, BAD_GATEWAY, Answer(body=b"{}" * 99, cut=50)])
def test_what_does_no_harm_is_tried_again_after_a_lost_answer(
    server: Server, client: Client, lost: Answer
) -> None:
    server.asked(lost, as_json(VIEW))
    assert client.job(JOB_ID).status == "succeeded"

    server.asked(lost, as_json(ACCEPTED))
    assert client.submit(REQUEST).id == JOB_ID


def test_every_submit_has_a_key_of_its_own_in_all_its_tries(server: Server, client: Client) -> None:
    server.asked(LOST, BUSY, as_json(ACCEPTED), as_json(ACCEPTED), as_json(ACCEPTED))

    client.submit(REQUEST)
    client.submit(REQUEST)
    client.submit(REQUEST, idempotency_key="order-1234")

    first, again, once_more, second, third = [seen.key for seen in server.seen]
    assert first
    assert first == again == once_more
    assert second not in (None, first)
    assert third == "order-1234"


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        (REQUEST, {"webhook_url": HOOK, "webhook_secret": WEBHOOK_SECRET}),
        (REQUEST, {"webhook_url": HOOK, "webhook_secret": [WEBHOOK_SECRET]}),
        (
            JobRequest.model_validate(
                {"prompt": "rain", "webhook_url": HOOK, "webhook_secret": WEBHOOK_SECRET}
            ),
            {},
        ),
    ],
)
def test_a_receivers_own_secret_goes_with_a_submit(
    server: Server, client: Client, request_: GenerationRequest, arguments: dict[str, Any]
) -> None:
    server.asked(as_json(ACCEPTED))

    client.submit(request_, **arguments)

    [seen] = server.seen
    assert seen.body["webhook_url"] == HOOK
    assert seen.body["webhook_secret"] in (WEBHOOK_SECRET, [WEBHOOK_SECRET])


def test_a_pause_that_would_last_too_long_is_left_to_the_caller(
    server: Server, client: Client
) -> None:
    server.asked(refusal(429, "queue_full", Retry_After="600"), as_json(ACCEPTED))

    with pytest.raises(ApiError) as refused:
        client.submit(REQUEST)

    assert refused.value.retry_after_s == 600
    assert len(server.seen) == 1


def test_what_is_wrong_with_the_request_is_said_at_once(server: Server, client: Client) -> None:
    server.asked(refusal(422, "invalid_request", X_Request_Id="abc"))

    with pytest.raises(ApiError) as refused:
        client.submit(REQUEST)

    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    assert refused.value.request_id == "abc"
    assert len(server.seen) == 1


def test_an_absent_service_is_an_error_once_the_time_for_tries_is_over() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retry_s=0.1) as client:
        with pytest.raises(httpx.ConnectError) as absent:
            client.health()
        assert type(pickle.loads(pickle.dumps(absent.value))) is httpx.ConnectError  # noqa: S301


def test_errors_can_be_pickled(server: Server) -> None:
    server.asked(refusal(429, "queue_full", Retry_After="7", X_Request_Id="abc"))
    with Client(server.url, retry_s=0) as client, pytest.raises(ApiError) as refused:
        client.submit(REQUEST)

    refused.value.add_note("while the test ran")
    copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301
    assert copy.__notes__ == ["while the test ran"]

    assert type(copy) is ApiError
    assert (str(copy), vars(copy)) == (str(refused.value), vars(refused.value))
    assert (copy.status, copy.code, copy.retry_after_s) == (429, "queue_full", 7)


def test_waiting_is_left_to_the_service(server: Server, client: Client) -> None:
    server.asked(as_json(VIEW | {"status": "running"}), LOST, UNDEPLOYED, as_json(VIEW))

    assert client.wait(JOB_ID).status == "succeeded"

    assert [seen.path for seen in server.seen] == [f"/jobs/{JOB_ID}?wait=20.0"] * 4


def test_every_reading_is_told(server: Server, client: Client) -> None:
    server.asked(as_json(VIEW | {"status": "running", "progress": 50}), as_json(VIEW))
    told: list[float] = []

    client.wait(JOB_ID, lambda job: told.append(job.progress))

    assert told == [50, 100]


def test_a_service_with_too_many_waiters_is_read_plainly(server: Server, client: Client) -> None:
    running = as_json(VIEW | {"status": "running"})
    crowded = refusal(429, "overloaded", Retry_After="0")
    server.asked(crowded, running, crowded, as_json(VIEW))

    assert client.wait(JOB_ID).status == "succeeded"

    waiting, plain = f"/jobs/{JOB_ID}?wait=20.0", f"/jobs/{JOB_ID}"
    assert [seen.path for seen in server.seen] == [waiting, plain, waiting, plain]


def test_a_download_that_fails_leaves_the_file_that_was_there(
    server: Server, tmp_path: Path
) -> None:
    server.asked(Answer(body=b"x" * 1000, cut=900))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})
    (tmp_path / "clip.wav").write_bytes(b"before")

    with Client(server.url, retry_s=0) as client, pytest.raises(httpx.TransportError):
        client.download(job, tmp_path / "clip.wav")

    assert (tmp_path / "clip.wav").read_bytes() == b"before"


def test_a_download_that_was_cut_off_is_begun_again(
    server: Server, client: Client, tmp_path: Path
) -> None:
    server.asked(Answer(body=b"x" * 1000, cut=900), LOST, Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    assert client.download(job, tmp_path / "clip.wav") == 5

    assert (tmp_path / "clip.wav").read_bytes() == b"audio"


def test_a_request_of_several_clips_is_not_generated_as_one(client: Client) -> None:
    with pytest.raises(ValueError, match="generate_all"):
        client.generate(GenerationRequest(prompt="rain", n=2))


def test_files_of_a_job_are_named_by_their_place(
    server: Server, client: Client, tmp_path: Path
) -> None:
    file = {"seed": 1, "size_bytes": 1, "sha256": "0", "audio_duration": 1, "warning": None}
    results = [
        file | {"index": index, "download_url": f"{server.url}/{index}", "storage_key": "x"}
        for index in range(2)
    ]
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/0", "results": results})
    server.asked(Answer(body=b"first"), Answer(body=b"second"))

    paths = client.download_all(job, tmp_path / "rain.wav")

    assert [path.name for path in paths] == ["rain-1.wav", "rain-2.wav"]
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    with pytest.raises(ValueError, match="no audio 2"):
        client.download(job, tmp_path / "rain-3.wav", 2)


def test_a_batch_is_sent_under_one_key_until_it_is_answered(server: Server, client: Client) -> None:
    error = {"code": "queue_full", "message": "Full.", "param": "model", "request_id": "r"}
    refused = {"error": error, "status_code": 429, "retry_after": 10}
    server.asked(LOST, as_json({"jobs": [ACCEPTED, refused]}))

    job, refusal = client.submit_batch([REQUEST, REQUEST])

    assert len({seen.key for seen in server.seen}) == 1
    assert server.seen[-1].body == {"requests": [{"prompt": "rain"}] * 2}
    assert isinstance(job, JobAccepted)
    assert job.id == JOB_ID
    assert isinstance(refusal, ApiError)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (429, "queue_full", 10)


def test_adapters_of_one_model_are_asked_for(server: Server) -> None:
    view = {
        "name": "rain", "model": "medium", "size_bytes": 1, "sha256": "ab" * 32, "kind": "lora",
        "rank": 16, "note": None,
    }  # fmt: skip
    server.asked(as_json({"loras": [view]}))

    with Client(server.url) as client:
        found = client.loras("medium")

    assert [one.model_dump() for one in found.loras] == [view]
    assert [seen.path for seen in server.seen] == ["/v1/loras?model=medium"]
