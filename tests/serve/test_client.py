"""The Python client and the service, with a faulty network between them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest
from ray import serve

from sa_ray.app import build
from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest
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
