"""Overload: 429 with Retry-After, and what was accepted still ends."""

from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import pytest

from sa_ray.client import AsyncClient
from sa_ray.contracts import GenerationRequest
from tests.support.commands import newest
from tests.support.deployment import Deploy
from tests.support.service import SLOW, Service

ONE_AT_A_TIME = {
    "small-sfx": {"max_batch_rows": 1, "max_replicas": 1},
    "medium": {"max_batch_rows": 1, "max_replicas": 1},
}


@pytest.fixture(scope="module")
def small(deploy: Deploy) -> Service:
    return deploy(variants=ONE_AT_A_TIME, max_queued_requests=1, max_queued_jobs=3)


def test_a_full_queue_answers_429_and_keeps_its_promises(small: Service) -> None:
    accepted: list[str] = []
    refused: list[httpx.Response] = []

    def is_full() -> bool:
        """One may have left the queue for its replica meanwhile: then there is room for another."""
        response = small.http.post("/jobs", json=SLOW)
        if response.status_code == 202:
            accepted.append(response.json()["id"])
            return False
        refused.append(response)
        return [small.job(job_id)["queue_position"] for job_id in accepted[-2:]] == [2, 3]

    small.until(is_full)

    error = refused[0].json()["error"]
    assert refused[0].status_code == 429
    assert int(refused[0].headers["retry-after"]) >= 1
    assert error["code"] == "queue_full"
    assert "STABLE_AUDIO_MAX_QUEUED_JOBS" in error["message"]

    for job_id in accepted[1:]:
        small.http.delete(f"/jobs/{job_id}")
    assert small.wait_for(accepted[0])["status"] == "succeeded"
    small.wait_for(small.submit(), "succeeded")


def test_of_a_batch_that_overfills_the_queue_the_rest_is_refused_for_now(small: Service) -> None:
    requests = [SLOW] * 10

    answer = small.http.post("/jobs/batch", json={"requests": requests})

    jobs = answer.json()["jobs"]
    accepted = [job["id"] for job in jobs if "id" in job]
    refused = [job for job in jobs if "error" in job]
    assert answer.status_code == 202
    assert len(accepted) >= 3
    assert refused
    for job in refused:
        assert (job["status_code"], job["error"]["code"]) == (429, "queue_full")
        assert job["retry_after"] >= 1
    for job_id in accepted:
        small.http.delete(f"/jobs/{job_id}")
    small.until(lambda: (small.health().queued_jobs, small.health().running_jobs) == (0, 0))


def test_saturated_synchronous_requests_answer_429(small: Service) -> None:
    def post(_: int) -> httpx.Response:
        return httpx.post(f"{small.base_url}/generate", json=SLOW, timeout=120)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = answers[statuses.index(429)]
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "overloaded"


async def abandon(base_url: str, after_s: float) -> None:
    async with AsyncClient(base_url) as client:
        with anyio.move_on_after(after_s) as scope:
            await client.generate(GenerationRequest.model_validate(SLOW))
        assert scope.cancelled_caught


def test_a_client_that_hangs_up_frees_the_replica(small: Service) -> None:
    assert small.http.post("/generate", json={**SLOW, "duration": 0.1}).status_code == 200
    replica = newest("ray::ServeReplica:sa-ray:medium")

    def spent() -> float:
        """CPU time so far: what else the machine does is no part of it."""
        times = replica.cpu_times()
        return float(times.user + times.system)

    begun = spent()
    elapsed = small.http.post("/generate", json=SLOW).raise_for_status().elapsed.total_seconds()
    whole = spent() - begun

    begun = spent()
    anyio.run(abandon, small.base_url, elapsed / 10)
    following = small.http.post("/generate", json={**SLOW, "duration": 0.1})

    # Had the abandoned request run on, the next one would have waited for the rest of it.
    assert following.status_code == 200
    assert spent() - begun < 0.7 * whole
