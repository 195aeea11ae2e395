"""A model whose replicas cannot start: requests are told, jobs wait until it can."""

from pathlib import Path

import pytest
from ray import serve

from tests.support.deployment import Deploy

pytestmark = pytest.mark.cluster


def test_a_model_that_cannot_start_refuses_requests_and_jobs_and_keeps_those_it_has(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package seems to be installed where the application is built, and is not in replicas."""
    (tmp_path / "stable_audio_3").mkdir()
    (tmp_path / "stable_audio_3" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # A model that has replicas now would have to have some of the new ones, too.
    serve.delete("sa-ray")
    service = deploy(engine="stable-audio-3", device="cpu", preload_models="")
    body = {"prompt": "rain", "duration": 0.5, "model": "small-music"}
    key = {"Idempotency-Key": "before it was known"}
    job_id = service.http.post("/jobs", json=body, headers=key).json()["id"]
    answer = service.generate(model="small-music", duration=1)
    service.until(lambda: service.health().status == "degraded")
    refused = service.http.post("/jobs", json=body)
    repeated = service.http.post("/jobs", json=body, headers=key)
    conflicting = service.http.post("/jobs", json={**body, "duration": 1}, headers=key)
    health = service.health()
    job = service.wait_for(job_id, "queued")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["code"] == "unavailable"
    assert "small-music" in refused.json()["error"]["message"]
    assert (repeated.status_code, repeated.json()["id"]) == (200, job_id)
    assert conflicting.status_code == 409
    assert health.status == "degraded"
    assert health.variants["small-music"].state == "unavailable"
    assert "stable-audio" in (health.variants["small-music"].message or "")
    assert job["attempts"] == 0

    kept = {name: service.settings[name] for name in ("jobs_url", "output_dir")}
    mended = deploy(engine="procedural", preload_models="", **kept)
    assert mended.wait_for(job_id)["status"] == "succeeded"
