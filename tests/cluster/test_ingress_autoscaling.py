"""Serve's autoscaler of the ingress: another replica under load, gone after it, nothing lost."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from tests.support.keys import write_keys
from tests.support.service import SLOW, Service

from .conftest import Deploy
from .load import Clients, SteadyLoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

AT_ONCE = 4
"""Requests that each limited key may have under way."""

QUICK: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 2,
    "look_back_period_s": 2,
    "metrics_interval_s": 1,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2,
    "policy": {
        "policy_function": "sa_ray.serving.autoscaling:CpuPolicy",
        "policy_kwargs": {"target_share": 0.3},
    },
}


class Flood(Clients):
    """Clients that ask one request after another, without a pause."""

    CLIENTS = 6

    def __init__(self, service: Service) -> None:
        self._service = service
        super().__init__([self._ask] * self.CLIENTS)
        self.statuses: Counter[int] = Counter()

    def _ask(self) -> None:
        with connect(self._service) as http:
            while not self._stop.is_set():
                self.statuses[http.get("/v1/models").status_code] += 1


def connect(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.base_url, headers=service.http.headers, timeout=60)


def ingresses() -> dict[str, int]:
    """How many replicas of the ingress there are, by their state."""
    deployments = serve.status().applications["sa-ray"].deployments
    if "ingress" not in deployments:  # as long as it is being deployed
        return {}
    states = deployments["ingress"].replica_states
    return {str(getattr(state, "value", state)): count for state, count in states.items()}


def let_at_once(service: Service, job_id: str, secret: str) -> int:
    """How many of three times ``AT_ONCE`` event streams of a key are let be open."""
    headers = {"Authorization": f"Bearer {secret}"}
    with ExitStack() as stack:
        streams = [
            stack.enter_context(
                httpx.stream(
                    "GET", f"{service.base_url}/jobs/{job_id}/events", headers=headers, timeout=60
                )
            )
            for _ in range(3 * AT_ONCE)
        ]
        statuses = Counter(stream.status_code for stream in streams)
    assert set(statuses) <= {200, 429}
    return statuses[200]


def test_an_ingress_comes_with_the_load_shares_the_limits_and_goes(
    deploy: Deploy, tmp_path: Path, table: list[str]
) -> None:
    entries = [
        {"name": f"key-{n}", "scopes": ["admin"], "limits": {"concurrent_requests": AT_ONCE}}
        for n in range(100)
    ]
    keys = write_keys(tmp_path / "keys.yaml", {"name": "operator", "scopes": ["admin"]}, *entries)
    operator = {"Authorization": f"Bearer {keys.pop('operator')}"}
    service = deploy(
        QUICK, "ingress", max_ingress_replicas=2, api_keys_file=str(tmp_path / "keys.yaml")
    )
    service.http.headers.update(operator)
    service.until(lambda: ingresses() == {"RUNNING": 1})

    with SteadyLoad(service, connect=lambda: connect(service)) as load:
        with Flood(service) as flood:
            service.until(lambda: ingresses() == {"RUNNING": 2})

            jobs = [service.submit(**SLOW) for _ in range(8)]
            secrets = iter(keys.values())
            # Each time another key: the streams of the one before may not be over.
            service.until(lambda: let_at_once(service, jobs[-1], next(secrets)) == AT_ONCE)
            for job_id in jobs:
                service.http.delete(f"/jobs/{job_id}")

        service.until(lambda: ingresses() == {"RUNNING": 1})
        load.wait_for_answers()

    table.append(load.row("an ingress replica comes with a flood, and goes after it", ""))
    assert set(flood.statuses) == {200}
    load.assert_nothing_lost()
