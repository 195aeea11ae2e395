"""A model whose replicas cannot start: requests are told, jobs wait until it can."""

from pathlib import Path

import pytest
from ray import serve

from tests.support.deployment import Deploy


def test_a_model_that_cannot_start_refuses_requests_and_keeps_its_jobs(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package seems to be installed where the application is built, and is not in replicas."""
    (tmp_path / "stable_audio_3").mkdir()
    (tmp_path / "stable_audio_3" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # A model that has replicas now would have to have some of the new ones, too.
    serve.delete("sa-ray")
    service = deploy(engine="stable-audio-3", device="cpu", preload_models="")
    job_id = service.submit(model="small-music")
    answer = service.generate(model="small-music", duration=1)
    health = service.health()
    job = service.wait_for(job_id, "queued")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert health.status == "degraded"
    assert health.variants["small-music"].state == "unavailable"
    assert "stable-audio" in (health.variants["small-music"].message or "")
    assert job["attempts"] == 0

    kept = {name: service.settings[name] for name in ("jobs_url", "output_dir")}
    mended = deploy(engine="procedural", preload_models="", **kept)
    assert mended.wait_for(job_id)["status"] == "succeeded"
