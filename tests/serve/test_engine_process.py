"""The engine of a replica in a process of its own: killed, it costs nobody a clip."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sa_ray import app
from tests.support.deployment import Deploy
from tests.support.engine_in_process import EngineInProcess, engine_processes
from tests.support.service import SLOW, Service

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def service(deploy: Deploy) -> Iterator[Service]:
    """With one replica at most: there is no other to go to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Variant", EngineInProcess)
        yield deploy(variants={"medium": {"max_replicas": 1}})


def kill_engine() -> int:
    [process] = engine_processes("medium")
    process.kill()
    return process.pid


def test_clips_outlive_the_process_that_makes_them(service: Service) -> None:
    with ThreadPoolExecutor(1) as client:
        job = service.submit(**SLOW)
        service.until(lambda: service.job(job)["progress"] > 0)
        waiting = client.submit(lambda: service.generate(**SLOW, seed=4))
        killed = kill_engine()

        ended = service.wait_for(job, "succeeded")
        answer = waiting.result()

    assert ended["attempts"] == 2
    assert answer.status_code == 200, answer.text
    [process] = engine_processes("medium")
    assert process.pid != killed


def test_a_clip_waits_for_a_replica_whose_idle_engine_was_killed(service: Service) -> None:
    clip = service.generate(model="medium", seed=5, duration=1)
    kill_engine()

    again = service.generate(model="medium", seed=5, duration=1)

    assert again.status_code == 200, again.text
    assert again.content == clip.content


def test_a_process_goes_with_its_replica(service: Service) -> None:
    assert service.generate(model="medium", duration=1).status_code == 200
    [process] = engine_processes("medium")
    replica = process.parent()
    assert replica is not None
    assert "ServeReplica:sa-ray:medium" in " ".join(replica.cmdline())

    replica.kill()

    service.until(lambda: not process.is_running())
    assert service.generate(model="medium", duration=1).status_code == 200
