"""Health, models, and the graph as Serve sees it."""

import json
import threading
from pathlib import Path

from ray import serve

from tests.support.commands import run
from tests.support.service import Service


def test_health_has_every_field_of_the_old_server(service: Service) -> None:
    health = service.http.get("/health").json()

    assert health["status"] == "ok"
    assert health["model"] == "small-sfx"
    assert health["loaded"] is True
    assert health["storage_backend"] == "local"
    assert health["available_models"] == ["small-sfx", "small-music", "medium"]
    assert "small-sfx" in health["loaded_models"]
    assert health["preload_models"] == ["small-sfx"]
    assert health["model_duration_limits_seconds"] == {
        "small-sfx": 120, "small-music": 120, "medium": 380,
    }  # fmt: skip
    assert health["max_duration_seconds"] == 380
    assert health["max_steps"] == 50
    assert health["device"] == "auto"
    assert health["engine"] == "procedural"
    assert health["storage"] == {"ok": True, "message": None}


def test_every_deployment_is_healthy(service: Service) -> None:
    application = serve.status().applications["sa-ray"]

    assert application.status == "RUNNING"
    assert set(application.deployments) == {
        "ingress", "dispatcher", "small-sfx", "small-music", "medium",
    }  # fmt: skip
    assert {d.status for d in application.deployments.values()} == {"HEALTHY"}


def test_models_are_listed_with_their_aliases(service: Service) -> None:
    listed = service.http.get("/v1/models").json()

    assert listed["default"] == "small-sfx"
    by_id = {model["id"]: model for model in listed["models"]}
    assert by_id["medium"]["max_duration_seconds"] == 380
    assert "stabilityai/stable-audio-3-medium" in by_id["medium"]["aliases"]


def test_presets_are_listed_for_a_model(service: Service) -> None:
    everything = service.http.get("/v1/presets").json()["presets"]
    listed = service.http.get("/v1/presets", params={"model": "small-music"}).json()["presets"]

    assert {one["kind"] for one in everything} == {"sfx", "music", "stems"}
    assert {one["kind"] for one in listed} == {"music", "stems"}
    made = service.generate(
        model="small-music", **{k: listed[0][k] for k in ("prompt", "duration")}
    )
    assert made.status_code == 200


def test_presets_of_a_model_that_does_not_exist_are_refused(service: Service) -> None:
    refused = service.http.get("/v1/presets", params={"model": "large"})

    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "model"


def test_adapters_are_listed_where_there_are_any(service: Service, tmp_path: Path) -> None:
    for params in ({}, {"model": "medium"}):
        answer = service.http.get("/v1/loras", params=params)
        assert (answer.status_code, answer.json()) == (200, {"loras": []})

    refused = service.http.get("/v1/loras", params={"model": "large"})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "model"

    shown = run("sa-ray", "loras", service.base_url, "--json", cwd=tmp_path)
    assert json.loads(shown.stdout) == {"loras": []}
    asked = ("--lora", "rain:0.5", "--url", service.base_url)
    made = run("sa-ray", "generate", "rain", *asked, cwd=tmp_path)
    assert made.returncode == 1
    assert "loras is a choice of Stable Audio 3" in " ".join(made.stderr.split())


def test_health_answers_while_a_long_clip_is_generated_and_encoded(service: Service) -> None:
    answered: list[int] = []
    finished = threading.Event()

    def generate() -> None:
        response = service.generate(duration=120, steps=50, format="mp3")
        answered.append(response.status_code)
        finished.set()

    worker = threading.Thread(target=generate)
    worker.start()
    polls = 0
    while not finished.is_set():
        assert service.http.get("/health").status_code == 200
        polls += 1
    worker.join()

    assert answered == [200]
    assert polls > 5


def test_the_api_describes_itself(service: Service) -> None:
    spec = service.http.get("/openapi.json").json()

    assert service.http.get("/docs").status_code == 200
    assert set(spec["paths"]) == {
        "/v1/audio/generations", "/generate", "/jobs", "/jobs/{job_id}", "/jobs/{job_id}/audio",
        "/jobs/{job_id}/events", "/v1/presets", "/v1/loras",
        "/v1/models", "/v1/usage", "/health", "/jobs/batch", "/jobs/variations", "/jobs/inpaint",
        "/v1/audio/variations", "/v1/audio/inpaint", "/v1/uploads", "/v1/uploads/{upload_id}",
        # of other APIs
        "/v1/audio/speech",
        "/v1/sound-generation", "/v1/music", "/v1/music/stream",
        "/v1/audio/generate",
        "/v2beta/audio/stable-audio-2/{mode}", "/v2beta/audio/stable-audio/{mode}",
        "/v2beta/audio/results/{result_id}",
    }  # fmt: skip
    assert "/health" in spec["paths"]
