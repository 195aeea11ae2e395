"""A replica that has lost its device is replaced, and its jobs are done by another."""

from pathlib import Path

import pytest

from sa_ray import app
from tests.support.broken_engine import breaking
from tests.support.deployment import Deploy


def test_a_job_outlives_the_loss_of_its_replicas_device(
    deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "lost"
    (tmp_path / "device").touch()
    monkeypatch.setattr(app, "Variant", breaking(marker))
    service = deploy(max_steps=41)

    job = service.wait_for(service.submit(prompt="a bell", duration=0.5), "succeeded", "failed")

    assert marker.exists()
    assert job["status"] == "succeeded"
    assert job["attempts"] == 2
