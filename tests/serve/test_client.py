"""The Python clients and the service, with a faulty network between them."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from uuid import uuid4

import httpx
import pytest
import soundfile
from ray import serve

from sa_ray.app import build
from sa_ray.client import ApiError, BatchResult, Client
from sa_ray.contracts import GenerationRequest
from tests.support.clients import opener
from tests.support.fault_proxy import FaultProxy
from tests.support.service import SLOW, Service

SHORT = GenerationRequest(prompt="rain", duration=0.5)


@pytest.fixture
def network(service: Service) -> Iterator[FaultProxy]:
    port = httpx.URL(service.base_url).port
    assert port
    with FaultProxy(port) as proxy:
        yield proxy


def test_a_submit_whose_answer_is_lost_makes_one_job(service: Service, network: FaultProxy) -> None:
    last = service.submit()
    network.lose_answers(2)

    with Client(network.url) as client:
        accepted = client.submit(SHORT)

    jobs = service.http.get("/jobs?limit=2").json()["jobs"]
    assert [job["id"] for job in jobs] == [accepted.id, last]


def test_a_generation_whose_answer_is_lost_is_not_begun_again(network: FaultProxy) -> None:
    network.lose_answers(1)

    with Client(network.url) as client, pytest.raises(httpx.RemoteProtocolError):
        client.generate(SHORT)


@pytest.fixture(params=["sync", "asyncio"])
def opened(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Client]]:
    found: Callable[..., AbstractContextManager[Client]] = opener(request.param)
    return found


@pytest.fixture
def client(
    opened: Callable[..., AbstractContextManager[Client]], network: FaultProxy
) -> Iterator[Client]:
    with opened(network.url) as client:
        yield client


def test_events_outlive_lost_connections(network: FaultProxy, client: Client) -> None:
    longest = SLOW | {"model": "small-sfx", "duration": 120}
    job_id = client.submit(GenerationRequest.model_validate(longest)).id

    events = client.events(job_id)
    seen = [next(events)]
    network.pass_on()  # breaks the stream
    seen.extend(events)

    *before, last = seen
    assert last.type == "succeeded"
    assert {event.type for event in before} <= {"queued", "progress"}
    assert len({event.id for event in seen}) == len(seen)
    assert {event.job.id for event in seen} == {job_id}
    assert list(client.events(job_id, after=last.id)) == []


def test_an_edit_is_what_its_request_makes_of_the_upload(
    service: Service, client: Client, tmp_path: Path
) -> None:
    sound = client.generate(GenerationRequest(prompt="rain", duration=1, seed=1))
    file = tmp_path / "rain.wav"
    file.write_bytes(sound)
    regions = [{"start": 0.2, "end": 0.6}]
    request = GenerationRequest.model_validate({"prompt": "thunder", "seed": 5, "regions": regions})

    edits = [client.edit(request, inpaint_audio=form) for form in (file, sound)]

    upload = client.upload(file).id
    made = service.generate(prompt="thunder", seed=5, regions=regions, inpaint_audio=upload)
    assert edits == [made.content] * 2


def test_a_batch_is_made_and_found_again(client: Client, tmp_path: Path) -> None:
    wrong = GenerationRequest(prompt="rain", duration=1e6)
    requests = [*(SHORT.model_copy(update={"seed": seed}) for seed in range(5)), wrong]
    key = uuid4().hex

    def run() -> dict[int, BatchResult]:
        with client.batch(requests, parallel=3, idempotency_key=key) as results:
            return {result.index: result for result in results}

    found, again = run(), run()

    refused = found.pop(5).error
    assert isinstance(refused, ApiError)
    assert refused.param == "duration"
    assert sorted(found) == list(range(5))
    for index, result in found.items():
        assert result.job
        assert result.job.seed == index
        assert client.download(result.job, tmp_path / f"{index}.wav") == result.job.size_bytes
        repeated = again[index].job
        assert repeated
        assert repeated.id == result.job.id


def test_presets_and_usage_are_those_of_the_service(client: Client) -> None:
    assert all("medium" in preset.models for preset in client.presets("medium").presets)
    report = client.usage()
    assert (report.last - report.first).days == 29


def test_the_example_of_the_documentation_does_what_it_says(
    service: Service, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    [example] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    program = example.replace("http://localhost:8000", service.base_url)

    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)

    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(b"succeeded 100.0\n")
    seconds = {file.name: soundfile.info(file).duration for file in tmp_path.iterdir()}
    assert seconds == {"rain.wav": 5, "thunder.wav": 5, "0.wav": 7, "1.wav": 7}


@pytest.mark.cluster
def test_waiting_outlives_lost_connections_and_a_restart_of_the_service(
    service: Service, network: FaultProxy, tmp_path: Path
) -> None:
    waiting = Event()

    with Client(network.url) as client, ThreadPoolExecutor(1) as threads:
        accepted = client.submit(GenerationRequest.model_validate(SLOW))
        ended = threads.submit(client.wait, accepted.id, lambda _: waiting.set())
        assert waiting.wait(60)

        network.refuse()
        network.pass_on()
        serve.delete("sa-ray")
        service.until(lambda: "not_deployed" in service.http.get("/health").text)
        assert not ended.done()
        serve.run(build(service.settings), name="sa-ray", route_prefix="/")

        job = ended.result(120)
        assert job.status == "succeeded"
        assert client.download(job, tmp_path / "clip.wav") == job.size_bytes
