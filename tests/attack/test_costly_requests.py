"""Requests made to cost as much as can be: each is refused, for about the cost of any other."""

import psutil
import pytest

from bench.request_costs import BODIES, HEADERS, PROMPTS
from tests.support.service import Service, local_settings

from .conftest import Target

pytestmark = pytest.mark.attack

TIMES = 4

MOST_S = 1.0
"""CPU time of one. Fifty times what it should be, so that no machine is slow enough to fail."""


@pytest.fixture(scope="module")
def service(target: Target) -> Service:
    return Service(target.service.base_url, local_settings(target.folder))


@pytest.fixture(scope="module")
def ingress(target: Target) -> psutil.Process:
    """The process that answers the service's requests."""
    [pid] = [pid for pid, name in target.processes.items() if "sa-ray:ingress" in name]
    return psutil.Process(pid)


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def test_no_request_takes_the_ingress_long(service: Service, ingress: psutil.Process) -> None:
    plain = b'{"prompt":1}'
    requests = {name: (body, {}) for name, body in BODIES.items()} | {
        name: (plain, {key.decode(): value.decode()}) for name, (key, value) in HEADERS.items()
    }
    costs = {}
    for name, (body, headers) in {"refused for its prompt": (plain, {}), **requests}.items():
        before = spent(ingress)
        for _ in range(TIMES):
            answer = service.http.post(
                "/jobs", content=body, headers={"Content-Type": "application/json", **headers}
            )
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert len(answer.content) < 10_000, name
        costs[name] = (spent(ingress) - before) / TIMES
    for name, cost in costs.items():
        print(f"{1000 * cost:7.1f} ms of CPU time: {name}")

    assert {name: cost for name, cost in costs.items() if cost > MOST_S} == {}


def test_prompts_that_are_hard_to_read_are_read(service: Service) -> None:
    jobs = [service.submit(prompt=prompt, duration=0.1) for prompt in PROMPTS.values()]

    assert {service.wait_for(job)["status"] for job in jobs} == {"succeeded"}
