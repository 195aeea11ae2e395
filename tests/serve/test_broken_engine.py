"""Engines that do badly: flawed clips are told or made again, slow or lost ones are seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sa_ray import app
from sa_ray.contracts import Health
from tests.support.broken_engine import NOT_NUMBERS, SILENT, SLOW, breaking
from tests.support.deployment import Deploy
from tests.support.service import Service


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without it, the next batch breaks its replica."""
    marker = tmp_path_factory.mktemp("broken") / "lost"
    (marker.parent / "device").touch()
    (marker.parent / "slow").touch()
    marker.touch()
    return marker


@pytest.fixture(scope="module")
def broken(deploy: Deploy, marker: Path) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Variant", breaking(marker))
        yield deploy(max_steps=41)


def test_a_clip_without_sound_comes_with_a_warning_and_not_twice(broken: Service) -> None:
    clip = broken.generate(prompt=SILENT, duration=0.5, seed=4)
    job = broken.wait_for(broken.submit(prompt=SILENT, duration=0.5, seed=4), "succeeded")
    download = broken.http.get(f"/jobs/{job['id']}/audio")

    assert (clip.status_code, clip.headers["x-seed"]) == (200, "4")
    assert "seed 4 is silent" in clip.headers["x-warning"]
    assert job["warning"] == clip.headers["x-warning"] == download.headers["x-warning"]
    assert job["seed"] == 4
    assert download.content == clip.content


def test_a_bad_clip_is_made_again_where_the_client_allows_it(broken: Service) -> None:
    wanted = {"duration": 0.5, "seed": 4, "retry_bad": True}
    clip = broken.generate(prompt=NOT_NUMBERS, **wanted)
    job = broken.wait_for(broken.submit(prompt=SILENT, **wanted), "succeeded")
    download = broken.http.get(f"/jobs/{job['id']}/audio")
    same = broken.generate(prompt=SILENT, duration=0.5, seed=5)

    assert (clip.status_code, clip.headers["x-seed"]) == (200, "5")
    assert "x-warning" not in clip.headers
    assert (job["seed"], job["warning"]) == (5, None)
    assert download.headers["x-seed"] == "5"
    assert download.content == same.content


def test_a_clip_of_broken_samples_is_an_error(broken: Service) -> None:
    answer = broken.generate(prompt=NOT_NUMBERS, duration=0.5, seed=4)

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "generation_failed"
    assert "let retry_bad do so" in answer.json()["error"]["message"]


def test_health_says_why_a_replica_is_slow(broken: Service) -> None:
    broken.wait_until_started()  # storage and jobs, too, have been looked at
    readings: list[Health] = []

    def is_told() -> bool:
        readings.append(broken.health())
        return readings[-1].variants["small-sfx"].slowdown is not None

    broken.until(is_told)
    health = readings[-1]

    assert health.status == "degraded"
    assert health.variants["small-sfx"].slowdown == SLOW
    assert health.variants["medium"].slowdown is None


def test_a_job_outlives_the_loss_of_its_replicas_device(broken: Service, marker: Path) -> None:
    marker.unlink()

    job = broken.wait_for(broken.submit(prompt="a bell", duration=0.5), "succeeded", "failed")

    assert marker.exists()
    assert job["status"] == "succeeded"
    assert job["attempts"] == 2
