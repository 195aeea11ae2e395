"""The load test of ``bench/``: when it sends, what it counts, and the engines that it pretends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.loadtest import arrivals, report
from bench.loadtest.engine import PretendedEngine, eager, h100, nothing
from bench.loadtest.loops import Target, closed, open_loop
from bench.loadtest.mixes import MIXES, Kind, Mix, job
from bench.loadtest.pretended_gpus import recovered
from bench.loadtest.recording import Phase, Record
from bench.loadtest.stage import Place, Row, Scenario
from sa_ray.contracts import GenerationRequest, JobRequest, ResolvedRequest
from sa_ray.local import free_port
from tests.support.engine_contract import StepwiseEngineContract, wanted

MIX = Mix([Kind("plain", {})])


class TestPretendedEngine(StepwiseEngineContract):
    @pytest.fixture
    def engine(self) -> PretendedEngine:
        return PretendedEngine("small-sfx", nothing, longest_s=4)


def clip(model: str = "small-sfx", duration: float = 5.0, steps: int = 8) -> ResolvedRequest:
    return wanted(model=model, duration=duration, steps=steps)


def test_a_pretended_h100_takes_what_was_found_for_one() -> None:
    assert h100([clip()]) == pytest.approx(0.040)
    assert h100([clip()] * 8) == pytest.approx(0.075)
    assert h100([clip()] * 16) == pytest.approx(0.125)
    assert 64 / h100([clip()] * 64) == pytest.approx(133, abs=2)
    assert h100([clip(steps=16)]) > 1.5 * h100([clip()])
    assert h100([clip("medium")]) > h100([clip()])
    assert h100([clip(duration=30)]) > h100([clip()])
    assert h100([]) == 0
    assert eager([clip()]) == pytest.approx(0.41)


def test_a_batch_sleeps_through_its_steps() -> None:
    asked: list[int] = []

    def seconds(batch: object) -> float:
        asked.append(len(batch))  # type: ignore[arg-type]
        return 0.004

    engine = PretendedEngine("small-sfx", seconds, longest_s=1)
    done: list[int] = []

    engine.generate(
        [wanted(steps=4), wanted(steps=4)],
        lambda row, fraction: done.append(row),
        lambda row: row == 1 and done.count(1) == 2,
    )

    assert asked == [2, 2, 1, 1]  # a row that is dropped is not paid for


@pytest.mark.parametrize("draw", [arrivals.poisson, arrivals.bursts])
def test_arrivals_have_their_rate_and_come_again_with_their_seed(draw: object) -> None:
    assert callable(draw)
    times = draw(50, 200, 1).times

    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] <= 200
    np.testing.assert_array_equal(times, draw(50, 200, 1).times)
    assert not np.array_equal(times, draw(50, 200, 2).times)


def test_poisson_arrivals_are_independent_and_bursts_are_not() -> None:
    calm = np.histogram(arrivals.poisson(50, 200).times, np.arange(201))[0]
    bursts = np.histogram(arrivals.bursts(50, 200).times, np.arange(201))[0]

    assert calm.var() / calm.mean() == pytest.approx(1, abs=0.5)
    assert bursts.var() / bursts.mean() > 20


def test_a_trace_is_drawn_or_read_from_a_file(tmp_path: Path) -> None:
    drawn = arrivals.trace("heavy-tailed", 20, 100)
    file = tmp_path / "trace.jsonl"
    file.write_text('{"at": 2, "duration": 30}\n{"at": 0.5, "duration": 5}\n')
    read = arrivals.from_file(file)
    file.write_text('{"at": 2}\n{"on": 3}\n')

    assert drawn.durations is not None
    assert len(drawn.times) == len(drawn.durations) == pytest.approx(2000, rel=0.1)
    assert (list(read.times), list(read.durations)) == ([0.5, 2], [5, 30])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="line 2: KeyError\\('at'\\)"):
        arrivals.from_file(file)


def test_a_mix_draws_by_weight_and_repeats() -> None:
    mix, again = Mix(MIXES["mixed"], 3), Mix(MIXES["mixed"], 3)

    names = [mix.draw().name for _ in range(2000)]

    assert names == [again.draw().name for _ in range(2000)]
    assert names.count("sync 5 s") == pytest.approx(800, rel=0.15)
    assert {kind.name for kind in MIXES["mixed"]} == set(names)


@pytest.mark.parametrize("name", MIXES)
def test_the_mixes_ask_for_what_the_service_takes(name: str) -> None:
    for kind in MIXES[name]:
        asked = kind.edits("0" * 64) if kind.source else kind
        contract = JobRequest if kind.job else GenerationRequest

        assert contract.model_validate_json(asked.body())
        assert (json.loads(asked.body(3.0)).get("duration") == 3.0) == (kind.source is None)


def test_the_source_of_an_edit_is_uploaded_first() -> None:
    sent = []

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        sent.append((handler.path, body))
        is_upload = handler.path == "/v1/uploads"
        reply(handler, 201 if is_upload else 200, b'{"id": "the upload"}')

    edit = Kind("edit", {"duration": 5}, source=0.5)
    with server(answer) as target:
        open_loop(target, Mix([edit]), arrivals.Arrivals(np.array([0.0])))

    (upload, file), (generate, body) = sent
    assert (upload, generate) == ("/v1/uploads", "/generate")
    assert file.startswith(b"RIFF")
    assert json.loads(body)["init_audio"] == "the upload"
    assert "duration" not in json.loads(body)


def test_a_job_is_followed_to_its_end() -> None:
    states = iter(["queued", "running", "succeeded", "queued", "failed"])

    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        if handler.path == "/jobs":
            reply(handler, 202, b'{"id": "the-job"}')
            return
        status = next(states)
        ended = "now" if status in ("succeeded", "failed") else None
        reply(handler, 200, json.dumps({"status": status, "completed_at": ended}).encode())

    with server(answer) as target:
        phases = [open_loop(target, Mix([job()]), arrivals.Arrivals(np.zeros(1))) for _ in "ab"]

    assert [one.error for phase in phases for one in phase.records] == [None, "job failed"]
    assert next(states, None) is None


@contextmanager
def server(answer: object) -> Iterator[Target]:
    """Serve HTTP/1.1; ``answer(handler, body)`` answers each request."""
    assert callable(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self) -> None:
            answer(self, b"")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # or a connection among many waits a second for its turn

    listening = Server(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Target(listening.server_port)
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **more: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, text in more.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.end_headers()
    handler.wfile.write(body)


def test_latency_counts_from_the_intended_time_while_the_server_stalls() -> None:
    stall_s, requests = 0.5, 8
    stalled, first = threading.Event(), threading.Semaphore()

    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        if first.acquire(blocking=False):
            threading.Timer(stall_s, stalled.set).start()
        stalled.wait()
        reply(handler, 200)

    times = np.linspace(0, stall_s / 2, requests)
    with server(answer) as target:
        phase = open_loop(target, MIX, arrivals.Arrivals(times))

    assert sorted(one.intended for one in phase.records) == list(times)
    for one in phase.records:  # each of them, and not the first alone
        assert one.latency >= stall_s - one.intended
    assert phase.summary()["latency_ms"]["p50"] >= 1000 * stall_s / 2


def test_what_is_served_refused_and_failed_is_counted_apart() -> None:
    count = iter(range(1000))

    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        match next(count) % 5:
            case 0:
                reply(handler, 429, b"{}", Retry_After="3")
            case 1:
                reply(handler, 503, b"{}")
            case 2:
                reply(handler, 500, b"{}")
            case 3:
                handler.close_connection = True  # without an answer
            case _:
                timing = "queue;dur=1.0, engine;dur=41.5, total;dur=50"
                reply(handler, 200, b"x" * 100_000, Server_Timing=timing)

    with server(answer) as target:
        phase = open_loop(target, MIX, arrivals.Arrivals(np.arange(50) / 500))
    told = phase.summary()

    assert (told["requests"], told["good"], told["refused"], told["failed"]) == (50, 10, 20, 20)
    assert told["good_per_second"] == pytest.approx(10 / phase.seconds, abs=0.01)
    assert told["refused_without_retry_after"] == 10
    assert told["failures"] == {"500": 10, "ConnectionResetError": 10}
    assert told["engine_ms"] == 41.5
    assert {one.size for one in phase.records if one.is_good} == {100_000}
    assert {one.retry_after for one in phase.records if one.status == 429} == {3.0}
    assert phase.cpu["client"] >= 0


def test_a_closed_loop_keeps_its_connections() -> None:
    clients = set()

    def answer(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
        clients.add(handler.client_address)
        reply(handler, 200)

    with server(answer) as target:
        phase = closed(target, MIX, clients=3, seconds=0.2)

    assert len(clients) == 3
    assert len(phase.records) > 3
    assert all(one.is_good for one in phase.records)


def test_recovery_is_when_requests_are_quick_again() -> None:
    sent = [float(at) for at in np.arange(0, 20, 0.1)]

    assert recovered(sent, []) == 0
    assert recovered(sent, [at for at in sent if at < 3]) == 3
    assert recovered(sent, sent) == max(sent)


def test_percentiles_are_of_what_was_served() -> None:
    phase = Phase(seconds=1.0)
    phase.records = [Record("a", 0.0, ended=at / 1000, status=200) for at in range(1, 101)]
    phase.records.append(Record("a", 0.0, ended=9.0, status=429))

    assert phase.latency_ms("p50") == pytest.approx(50.5)
    assert phase.latency_ms("max") == 100
    assert phase.summary()["refusal_ms"]["p50"] == 9000


class Pretended(Scenario):
    """A scenario of which one request is told."""

    name, place = "pretended", Place("gpu", {"medium": 1})

    def rows(self) -> list[Row]:
        return [Row("clips", "1/s", "2/s", "3/s", met=False)]


def test_results_say_that_a_gpu_was_simulated_and_leave_what_was_written(tmp_path: Path) -> None:
    scenario = Pretended(1.0)
    record = Record("a", 0.0, ended=0.1, status=200)
    scenario.phases = {"service": Phase(1.0, [record], {"client": 0.1, "ingress": 0.02})}
    page = tmp_path / "serving.md"
    page.write_text("# By hand\n\nBefore.\n")

    report.write([scenario], tmp_path / "serving", "the first command")
    page.write_text(page.read_text() + "\nAfter.\n")
    report.write([scenario], tmp_path / "serving", "the second command")

    told = json.loads((tmp_path / "serving.json").read_text())["scenarios"]["pretended"]
    text = page.read_text()
    assert told["simulated"]
    assert told["engine"].startswith("simulated GPU")
    assert told["phases"]["service"]["cpu_ms"] == {"client": 100, "ingress": 20}
    assert (tmp_path / "serving-pretended.png").read_bytes().startswith(b"\x89PNG")
    assert text.startswith("# By hand\n\nBefore.\n")
    assert text.endswith("After.\n")
    assert "the first command" not in text
    assert "| clips | 1/s | 2/s | 3/s | no |" in text
    assert (
        "| pretended (simulated GPU) | service | 1.0 | 100.0, 100.0, 100.0 | 0 | 0 | 20.00 |"
        in text
    )
