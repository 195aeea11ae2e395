"""A model whose replicas cannot start: nobody waits for it in vain."""

from pathlib import Path

import pytest

from .conftest import Deploy


def test_a_request_and_a_job_that_wait_for_a_model_that_cannot_start_are_told(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package seems to be installed where the application is built, and is not in replicas."""
    (tmp_path / "stable_audio_3").mkdir()
    (tmp_path / "stable_audio_3" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    weights = tmp_path / "no weights"
    service = deploy(
        engine="stable-audio-3", device="cpu", preload_models="", weights_dir=str(weights)
    )
    job_id = service.submit(model="small-music")
    answer = service.generate(model="small-music", duration=1)
    health = service.health()
    job = service.wait_for(job_id, "failed")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert health.status == "degraded"
    assert health.variants["small-music"].state == "unavailable"
    assert "stable-audio" in (health.variants["small-music"].message or "")
    assert (job["error_code"], job["attempts"]) == ("attempts_exhausted", 3)
