"""The Python clients, against a server of the test's own that answers as it is told."""

import json
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio import CancelScope, create_task_group, to_thread
from tenacity import wait_random_exponential

from sa_ray.client import ApiError, AsyncClient, Client, ClipWarning, aio_jobs, retrying, sync_jobs
from sa_ray.contracts import GenerationRequest, HealthStatus, JobAccepted, JobRequest, JobView
from sa_ray.errors import ConfigurationError
from sa_ray.local import free_port
from tests.support.clients import KINDS, opener
from tests.support.scripted_server import Answer, Server, as_json, refusal, serving

REQUEST = GenerationRequest(prompt="rain")
HOOK = "https://example.org/hook"
WEBHOOK_SECRET = "whsec_" + "A" * 32

JOB_ID = "0" * 32
ACCEPTED = {"id": JOB_ID, "status": "queued", "status_url": "http://x"}
UPLOAD = {
    "id": "ab" * 32, "seconds": 1, "sample_rate": 44100, "channels": 2, "format": "wav",
    "size_bytes": 1, "sha256": "ab" * 32, "expires_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
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


LOST = Answer(cut=0)
BUSY = refusal(429, "overloaded")
AWAY = refusal(503, "infrastructure_fault")
CROWDED_OUT = refusal(408, "request_timeout", **{"Retry-After": "0"})
TOOK_TOO_LONG = refusal(408, "request_timeout")
UNDEPLOYED = Answer(404, b"Path '/x' not found. Ping http://.../-/routes for available routes.")
BAD_GATEWAY = Answer(502, b"<html>Bad Gateway</html>")
UNDEPLOYED_NOW = refusal(503, "not_deployed")
SERVICE_LOST = refusal(502, "service_lost")


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not told how long to wait soon tries again."""
    monkeypatch.setattr(retrying, "_BACKOFF", wait_random_exponential(0.01, max=0.1))
    monkeypatch.setattr(sync_jobs, "RECONNECT_S", 0.01)
    monkeypatch.setattr(aio_jobs, "RECONNECT_S", 0.01)


Open = Callable[..., AbstractContextManager[Client]]


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens a client of each kind, which the tests see as a ``Client``."""
    found: Open = opener(request.param)
    return found


@pytest.fixture
def client(server: Server, opened: Open) -> Iterator[Client]:
    with opened(server.url, timeout_s=5, retry_s=60) as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_does_not_come_between_the_client_and_this_machine(
    opened: Open, monkeypatch: pytest.MonkeyPatch, server: Server, host: str
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    server.asked(Answer(404, b"it is the server that answers"))

    with (
        opened(f"http://{host}:{server.http.server_port}", timeout_s=5) as client,
        pytest.raises(ApiError, match="the server that answers"),
    ):
        client.health()


def test_a_service_on_another_machine_tells_its_status_alone(opened: Open, server: Server) -> None:
    server.asked(as_json({"status": "degraded"}))

    with opened(server.url) as client:
        assert client.health() == HealthStatus(status="degraded")


def test_a_proxy_does_not_come_between_the_client_and_a_store_on_this_machine(
    opened: Open, monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    server.asked(Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    with opened("http://192.0.2.1", retry_s=0) as client:
        assert client.download(job, tmp_path / "clip") == 5


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    yield from serving()


def test_the_key_goes_with_every_call_to_the_service(
    opened: Open, server: Server, tmp_path: Path
) -> None:
    server.asked(as_json({"status": "ok"}), as_json(ACCEPTED), Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    with opened(server.url, api_key="sar_mine") as client:
        client.health()
        client.submit(REQUEST)
        client.download(job, tmp_path / "clip")

    assert [seen.authorization for seen in server.seen] == ["Bearer sar_mine"] * 3


def test_the_key_is_taken_from_the_environment(
    opened: Open, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_API_KEY", " sar_environment\n")
    for api_key in (None, "sar_given", ""):
        server.asked(as_json({"status": "ok"}))
        with opened(server.url, api_key=api_key) as client:
            client.health()

    assert [seen.authorization for seen in server.seen] == [
        "Bearer sar_environment", "Bearer sar_given", None
    ]  # fmt: skip


def test_the_key_does_not_go_to_a_store_on_the_same_host(
    opened: Open, server: Server, elsewhere: Server, tmp_path: Path
) -> None:
    """Whoever listened on another port there was sent what belongs to the service."""
    elsewhere.asked(Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{elsewhere.url}/bucket/clip?X-Sig=1"})

    with opened(server.url, api_key="sar_mine") as client:
        client.download(job, tmp_path / "clip")

    assert [seen.authorization for seen in elsewhere.seen] == [None]


def test_the_key_does_not_follow_a_redirect_to_elsewhere(
    opened: Open, server: Server, elsewhere: Server, tmp_path: Path
) -> None:
    server.asked(Answer(302, headers={"Location": f"{elsewhere.url}/bucket/clip"}))
    elsewhere.asked(Answer(body=b"audio"))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})

    with opened(server.url, api_key="sar_mine") as client:
        client.download(job, tmp_path / "clip")

    assert [seen.authorization for seen in server.seen] == ["Bearer sar_mine"]
    assert [seen.authorization for seen in elsewhere.seen] == [None]


def test_a_wrong_key_is_said_at_once(opened: Open, server: Server) -> None:
    server.asked(refusal(401, "invalid_api_key"))

    with opened(server.url, api_key="sar_wrong") as client, pytest.raises(ApiError) as refused:
        client.models()

    assert refused.value.code == "invalid_api_key"
    assert len(server.seen) == 1


def test_a_key_with_a_line_end_in_it_is_refused_and_not_shown(opened: Open) -> None:
    for key in ("sar_se\ncret", "sar_sé"):
        with pytest.raises(ConfigurationError, match="STABLE_AUDIO_API_KEY") as refused:
            opened("http://127.0.0.1:9", api_key=key)
        assert "sar_" not in str(refused.value)


ASKED: dict[str, Callable[[Client], object]] = {
    "models": Client.models,
    "generate": lambda client: client.generate(REQUEST),
    "cancel": lambda client: client.cancel(JOB_ID),
    "events": lambda client: list(client.events(JOB_ID)),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_redirect_is_no_answer(server: Server, client: Client, asked: str) -> None:
    server.asked(Answer(308, b"<html>", {"Location": "https://elsewhere.example/"}))

    with pytest.raises(ApiError, match="to another address: https") as told:
        ASKED[asked](client)

    assert (told.value.status, told.value.code) == (308, "http_error")


@pytest.mark.parametrize("asked", ["models", "generate"])
def test_a_page_of_another_server_is_no_answer(server: Server, client: Client, asked: str) -> None:
    server.asked(Answer(200, b"<html>", {"Content-Type": "text/html"}))

    with pytest.raises(ApiError, match="not this service") as told:
        ASKED[asked](client)

    assert (told.value.status, told.value.code) == (200, "http_error")


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


def test_an_absent_service_is_an_error_once_the_time_for_tries_is_over(opened: Open) -> None:
    with opened(f"http://127.0.0.1:{free_port()}", retry_s=0.1) as client:
        with pytest.raises(httpx.ConnectError) as absent:
            client.health()
        assert type(pickle.loads(pickle.dumps(absent.value))) is httpx.ConnectError  # noqa: S301


def test_errors_can_be_pickled(opened: Open, server: Server) -> None:
    server.asked(refusal(429, "queue_full", Retry_After="7", X_Request_Id="abc"))
    with opened(server.url, retry_s=0) as client, pytest.raises(ApiError) as refused:
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


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_coroutine_is_told_every_reading(server: Server, backend: str) -> None:
    server.asked(as_json(VIEW | {"status": "running", "progress": 50}), as_json(VIEW))
    told: list[float] = []

    async def tell(job: JobView) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(job.progress)

    async def wait() -> None:
        async with AsyncClient(server.url) as client:
            await client.wait(JOB_ID, tell)

    anyio.run(wait, backend=backend)
    assert told == [50, 100]


def test_a_service_with_too_many_waiters_is_read_plainly(server: Server, client: Client) -> None:
    running = as_json(VIEW | {"status": "running"})
    server.asked(refusal(429, "overloaded", Retry_After="0"), running, as_json(VIEW))

    assert client.wait(JOB_ID).status == "succeeded"

    waiting, plain = f"/jobs/{JOB_ID}?wait=20.0", f"/jobs/{JOB_ID}"
    assert [seen.path for seen in server.seen] == [waiting, plain, waiting]


def test_a_download_that_fails_leaves_the_file_that_was_there(
    opened: Open, server: Server, tmp_path: Path
) -> None:
    server.asked(Answer(body=b"x" * 1000, cut=900))
    job = JobView.model_validate(VIEW | {"download_url": f"{server.url}/audio"})
    (tmp_path / "clip.wav").write_bytes(b"before")

    with opened(server.url, retry_s=0) as client, pytest.raises(httpx.TransportError):
        client.download(job, tmp_path / "clip.wav")

    assert (tmp_path / "clip.wav").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


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


def test_adapters_of_one_model_are_asked_for(opened: Open, server: Server) -> None:
    view = {
        "name": "rain", "model": "medium", "size_bytes": 1, "sha256": "ab" * 32, "kind": "lora",
        "rank": 16, "note": None,
    }  # fmt: skip
    server.asked(as_json({"loras": [view]}))

    with opened(server.url) as client:
        found = client.loras("medium")

    assert [one.model_dump() for one in found.loras] == [view]
    assert [seen.path for seen in server.seen] == ["/v1/loras?model=medium"]


def test_presets_and_usage_are_asked_for(server: Server, client: Client) -> None:
    preset = {"name": "Rain", "kind": "sfx", "models": ["small-sfx"], "prompt": "rain"}
    report = {"from": "2026-01-01", "to": "2026-01-02", "usage": []}
    server.asked(as_json({"presets": [preset | {"duration": 5}]}), as_json(report))

    [found] = client.presets("small-sfx").presets
    told = client.usage(date(2026, 1, 1), date(2026, 1, 2), key="")

    assert found.name == "Rain"
    assert (told.first, told.last) == (date(2026, 1, 1), date(2026, 1, 2))
    assert [seen.path for seen in server.seen] == [
        "/v1/presets?model=small-sfx",
        "/v1/usage?from=2026-01-01&to=2026-01-02&key=",
    ]


def test_a_pause_lasts_as_long_as_the_service_says(server: Server, client: Client) -> None:
    server.asked(refusal(503, "infrastructure_fault", Retry_After="1"), as_json(VIEW))

    client.job(JOB_ID)

    first, second = server.seen
    assert second.at - first.at >= 1


def test_a_client_that_was_closed_says_so(server: Server, client: Client) -> None:
    client.close()

    with pytest.raises(RuntimeError, match="closed"):
        client.health()
    assert server.seen == []


@pytest.mark.parametrize("form", [bytes, str, Path])
def test_a_file_is_sent_whole_however_often_it_has_to_be(
    server: Server, client: Client, tmp_path: Path, form: type
) -> None:
    sound = bytes(range(256)) * 10_000  # more than is read at once
    file = tmp_path / "rain.wav"
    file.write_bytes(sound)
    server.asked(BUSY, LOST, as_json(UPLOAD))

    sent = client.upload(sound if form is bytes else form(file))

    assert sent.id == UPLOAD["id"]
    assert [seen.body == sound for seen in server.seen] == [True] * 3
    assert {seen.headers["Content-Length"] for seen in server.seen} == {str(len(sound))}


@pytest.mark.parametrize("name", ["init_audio", "inpaint_audio", "continue_audio"])
def test_an_edit_is_made_from_what_it_uploads(server: Server, client: Client, name: str) -> None:
    server.asked(as_json(UPLOAD), BUSY, Answer(body=b"audio", headers={"X_Warning": "Silent."}))

    with pytest.warns(ClipWarning, match="Silent") as warned:
        assert client.edit(REQUEST, **{name: b"sound"}) == b"audio"

    assert len(warned) == 1
    assert [seen.path for seen in server.seen[::2]] == ["/v1/uploads", "/v1/audio/generations"]
    assert server.seen[0].body == b"sound"
    assert server.seen[2].body == {"prompt": "rain", name: UPLOAD["id"]}


@pytest.mark.parametrize("given", [{}, {"init_audio": b"one", "continue_audio": b"two"}])
def test_an_edit_is_made_from_one_file(
    server: Server, client: Client, given: dict[str, bytes]
) -> None:
    with pytest.raises(ValueError, match=f"one of .*; {len(given)} are given"):
        client.edit(REQUEST, **given)
    assert server.seen == []


def told(kind: str, number: int) -> str:
    status = "running" if kind == "progress" else kind
    data = json.dumps(VIEW | {"status": status, "prompt": None})
    return f"id: {status}.{number}\nevent: {kind}\ndata: {data}\n\n"


COMMENT = ": keep-alive\n\n"


def stream(*parts: str, lacks: int = 0) -> Answer:
    """A stream of events whose last bytes do not come."""
    body = "".join(parts).encode()
    kind = {"Content-Type": "text/event-stream"}
    return Answer(body=body, headers=kind, cut=len(body) - lacks if lacks else None)


def test_events_go_on_after_a_stream_that_was_cut(server: Server, client: Client) -> None:
    server.asked(
        BUSY,
        stream(told("queued", 1), COMMENT, told("progress", 2), told("progress", 3), lacks=20),
        LOST,
        stream(COMMENT),
        stream(COMMENT, told("from_a_later_release", 4), told("progress", 5)),
        stream(told("succeeded", 6), told("never", 7)),
    )

    events = list(client.events(JOB_ID))

    assert [(event.type, event.id) for event in events] == [
        ("queued", "queued.1"),
        ("progress", "running.2"),
        ("progress", "running.5"),
        ("succeeded", "succeeded.6"),
    ]
    assert [event.job.status for event in events] == ["queued", "running", "running", "succeeded"]
    assert {seen.path for seen in server.seen} == {f"/jobs/{JOB_ID}/events"}
    assert [seen.headers["Last-Event-ID"] for seen in server.seen] == [
        None, None, "running.2", "running.2", "running.2", "running.5"
    ]  # fmt: skip


def test_after_the_last_event_there_are_none(server: Server, client: Client) -> None:
    server.asked(Answer(204))

    assert list(client.events(JOB_ID, after="succeeded.6")) == []

    assert [seen.headers["Last-Event-ID"] for seen in server.seen] == ["succeeded.6"]


def test_events_of_no_job_are_an_error(server: Server, client: Client) -> None:
    server.asked(refusal(404, "job_not_found"))

    with pytest.raises(ApiError, match="Not now"):
        next(client.events(JOB_ID))


def test_what_fails_in_a_batch_stops_none_of_the_others(server: Server, client: Client) -> None:
    lost = refusal(404, "job_not_found")
    wrong = refusal(422, "invalid_request")
    server.asked(wrong, as_json(ACCEPTED), lost, BUSY, as_json(ACCEPTED), as_json(VIEW))
    requests = [GenerationRequest(prompt=prompt) for prompt in ("one", "two", "three")]

    with client.batch(iter(requests), parallel=1, idempotency_key="night") as results:
        found = list(results)

    assert [(one.index, one.request.prompt) for one in found] == [
        (0, "one"), (1, "two"), (2, "three")
    ]  # fmt: skip
    errors = [one.error.code if isinstance(one.error, ApiError) else None for one in found]
    assert errors == ["invalid_request", "job_not_found", None]
    assert [one.job.status if one.job else None for one in found] == [None, None, "succeeded"]
    keys = [seen.key for seen in server.seen if seen.method == "POST"]
    assert keys == ["night-0", "night-1", "night-2", "night-2"]


def test_a_batch_that_is_left_takes_no_more_requests(server: Server, client: Client) -> None:
    server.asked(*[as_json(ACCEPTED), as_json(VIEW)] * 9)
    taken: list[int] = []

    def requests() -> Iterator[GenerationRequest]:
        for number in range(9):
            taken.append(number)
            yield REQUEST

    def leave() -> None:
        with client.batch(requests(), parallel=1) as results:
            next(results)
            raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        leave()

    assert taken in ([0], [0, 1])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_error_of_the_requests_ends_a_batch_as_it_is(server: Server, backend: str) -> None:
    server.asked(*[as_json(ACCEPTED), as_json(VIEW)] * 9)

    def requests() -> Iterator[GenerationRequest]:
        yield REQUEST
        raise LookupError("of the requests")

    async def make() -> None:
        async with (
            AsyncClient(server.url) as client,
            client.batch(requests(), parallel=2) as results,
        ):
            async for _ in results:
                pass

    with pytest.raises(LookupError, match="of the requests"):
        anyio.run(make, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_results_that_are_closed_end_a_batch(server: Server, backend: str) -> None:
    async def make() -> None:
        async with (
            AsyncClient(server.url) as client,
            client.batch([REQUEST] * 9, parallel=1) as results,
        ):
            await anext(results)
            await results.aclose()  # type: ignore[attr-defined]
            while len(server.seen) < 4:
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)  # the second result comes, and nobody reads it

    server.asked(*[as_json(ACCEPTED), as_json(VIEW)] * 2)

    anyio.run(make, backend=backend)

    assert len(server.seen) == 4


def test_a_batch_without_a_place_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="parallel is 0"), client.batch([], parallel=0):
        pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_is_cancelled_closes_its_connection(backend: str) -> None:
    async def leave(listener: socket.socket) -> bytes:
        port = listener.getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}") as client, create_task_group() as tasks:
            tasks.start_soon(client.generate, REQUEST)
            connection, _ = await to_thread.run_sync(listener.accept)
            with connection:
                connection.settimeout(60)
                await to_thread.run_sync(connection.recv, 1 << 16)
                tasks.cancel_scope.cancel()
                with CancelScope(shield=True):  # the client is still open
                    return await to_thread.run_sync(read_to_the_end, connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        assert anyio.run(leave, listener, backend=backend) is not None


def read_to_the_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))
