"""The whole graph over HTTP with the real engine, on tiny checkpoints."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from adapters import RANK, asked, write_adapter
from tiny import fresh_model, make_snapshot
from typer.testing import CliRunner

from sa_ray.cli.commands import app
from sa_ray.client import ApiError
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import Generated
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from tests.support.deployment import Deploy
from tests.support.engine_in_process import engine_processes
from tests.support.service import Service

pytestmark = pytest.mark.upstream

ENDLESS = {"duration": 60, "steps": 5000}
"""Minutes of work even for a tiny model: it ends by being cancelled."""

SIXTEEN_BIT = 1e-4
"""A sample stored in 16 bits is off by half of 1/32768 at most; the rest is for batch shapes."""


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``STABLE_AUDIO_LORA_DIR``."""
    return tmp_path_factory.mktemp("loras")


@pytest.fixture(scope="module")
def service(
    deploy: Deploy, tmp_path_factory: pytest.TempPathFactory, loras: Path, hub_cache: Path
) -> Service:
    """All of the service on a CPU; small-music has no weights, small-sfx has adapters."""
    weights: Path = tmp_path_factory.mktemp("weights")
    for variant in ("small-sfx", "medium"):
        make_snapshot(weights / variant, variant)
    for name in ("rain", "wind"):
        model, _ = fresh_model("small-sfx")
        write_adapter(loras / "small-sfx", name, model, exclude=["seconds_total"])
    return deploy(
        engine="stable-audio-3",
        device="cpu",
        model_half=False,
        weights_dir=str(weights),
        lora_dir=str(loras),
        max_steps=ENDLESS["steps"],
        variants={
            name: {"max_replicas": 1, "max_batch_rows": 8}
            for name in ("small-sfx", "small-music", "medium")
        },
    )


def samples(data: bytes) -> np.ndarray:
    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 44_100
    return audio.T


@pytest.mark.timeout(400)  # Serve loads torch several times before it gives up.
def test_a_variant_without_weights_says_what_it_lacks_while_the_others_serve(
    service: Service,
) -> None:
    job_id = service.submit(model="small-music")
    refused = service.generate(model="small-music", duration=1)
    service.until(lambda: service.health().variants["small-music"].state == "unavailable")
    health = service.health()
    again = service.generate(model="small-music", duration=1)

    assert (health.engine, health.status) == ("stable-audio-3", "degraded")
    assert health.variants["small-sfx"].state == "ready"
    message = health.variants["small-music"].message or ""
    assert message.startswith("STABLE_AUDIO_WEIGHTS_DIR is ")
    assert message.endswith(
        "has no folder small-music with model_config.json, model.safetensors "
        "and the text encoder's folder."
    )
    for answer in (refused, again):
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"
    assert service.generate(model="small-sfx", duration=1).status_code == 200
    assert service.wait_for(job_id, "queued")["attempts"] == 0


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
def test_a_clip_over_http_is_what_the_engine_makes(
    service: Service, load: Callable[[VariantName], StableAudioEngine], variant: VariantName
) -> None:
    choices = {"prompt": "a church bell", "duration": 1.5, "steps": 4, "cfg_scale": 3.0, "seed": 5}

    answer = service.generate(model=variant, **choices)

    assert answer.status_code == 200, answer.text
    assert answer.headers["x-engine"] == "stable-audio-3"
    assert answer.headers["x-model"] == variant
    assert answer.headers["x-seed"] == "5"
    assert answer.headers["x-audio-duration"] == "1.500000"

    request = ResolvedRequest.model_validate({"model": variant} | choices)
    (outcome,) = load(variant).generate([request], lambda row, done: None, lambda row: False)
    assert isinstance(outcome, Generated)
    np.testing.assert_allclose(samples(answer.content), outcome.samples, atol=SIXTEEN_BIT)


def test_a_clip_with_adapters_over_http_is_what_the_engine_makes(
    service: Service, loras: Path
) -> None:
    choices = {"prompt": "a church bell", "duration": 1.5, "steps": 4, "seed": 5}
    model, config = fresh_model("small-sfx")
    engine = StableAudioEngine("small-sfx", model, config, lora_dir=loras)
    own = asked(loras / "small-sfx", rain=0.8, wind=-0.5)
    told = [one.model_dump(exclude={"sha256"}) for one in reversed(own)]

    listed = service.http.get("/v1/loras", params={"model": "small-sfx"}).json()["loras"]
    plain = service.generate(**choices)
    changed = service.generate(**choices, loras=told)
    job = service.wait_for(service.submit(**choices, loras=told), "succeeded")
    restored = service.generate(**choices)

    assert [(one["name"], one["model"], one["rank"]) for one in listed] == [
        ("rain", "small-sfx", RANK),
        ("wind", "small-sfx", RANK),
    ]
    assert job["loras"] == [one.model_dump() for one in own]
    assert [one["sha256"] for one in listed] == [one.sha256 for one in own]
    request = ResolvedRequest.model_validate(
        {"model": "small-sfx", "cfg_scale": 1.0, "loras": own} | choices
    )
    (outcome,) = engine.generate([request], lambda row, done: None, lambda row: False)
    assert isinstance(outcome, Generated)
    np.testing.assert_allclose(samples(changed.content), outcome.samples, atol=SIXTEEN_BIT)
    audio = service.http.get(f"/jobs/{job['id']}/audio").content
    np.testing.assert_allclose(samples(audio), outcome.samples, atol=SIXTEEN_BIT)
    assert np.abs(samples(plain.content) - outcome.samples).max() > 100 * SIXTEEN_BIT
    np.testing.assert_array_equal(samples(plain.content), samples(restored.content))


def test_an_adapter_of_another_model_is_refused_over_http(service: Service) -> None:
    for path in ("/v1/audio/generations", "/jobs"):
        body = {"prompt": "rain", "model": "medium", "loras": [{"name": "rain"}]}
        answer = service.http.post(path, json=body)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error["param"] == "loras.0.name"
        assert "there is no adapter rain for medium. There are none" in error["message"]


def test_a_file_made_with_an_adapter_is_made_again_and_said_to_differ_once_that_has_changed(
    service: Service, loras: Path, tmp_path: Path
) -> None:
    own = loras / "small-sfx" / "changing.safetensors"
    file = tmp_path / "clip.wav"

    def put(name: str) -> None:
        aside = tmp_path / "aside"
        aside.write_bytes((loras / "small-sfx" / f"{name}.safetensors").read_bytes())
        aside.replace(own)

    def regenerate() -> str:
        result = CliRunner().invoke(app, ["regenerate", str(file), "--url", service.base_url])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    put("rain")
    made = service.generate(duration=1, steps=2, loras=[{"name": "changing"}])
    assert made.status_code == 200, made.text
    file.write_bytes(made.content)
    assert "the same, byte for byte" in regenerate()

    put("wind")
    assert "changing is another adapter now" in regenerate()
    own.unlink()
    gone = CliRunner().invoke(app, ["regenerate", str(file), "--url", service.base_url])
    assert isinstance(gone.exception, ApiError)
    assert gone.exception.param == "loras.0.name"


def test_torch_is_in_the_process_of_the_engine_alone(service: Service) -> None:
    service.generate(duration=1, steps=2)
    [process] = engine_processes("small-sfx")
    replica = process.parent()

    assert replica is not None
    assert "ServeReplica:sa-ray:small-sfx" in " ".join(replica.cmdline())
    assert "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
    assert "libtorch" not in Path(f"/proc/{replica.pid}/maps").read_text()


def test_a_job_outlives_the_process_that_makes_its_clip(service: Service) -> None:
    job_id = service.submit(duration=60, steps=400, seed=3)
    service.until(lambda: service.job(job_id)["progress"] > 0)
    [process] = engine_processes("small-sfx")

    process.kill()

    assert service.wait_for(job_id, "succeeded")["attempts"] == 2


def test_a_job_reports_progress_and_leaves_its_audio(service: Service) -> None:
    job_id = service.submit(duration=30, steps=400, seed=3)
    service.until(lambda: 0 < service.job(job_id)["progress"] < 100)

    view = service.wait_for(job_id, "succeeded")

    assert view["engine"] == "stable-audio-3"
    assert view["progress"] == 100
    audio = service.http.get(f"/jobs/{job_id}/audio")
    assert samples(audio.content).shape == (2, 30 * 44_100)


def test_a_job_cancelled_midway_frees_the_engine(service: Service) -> None:
    job_id = service.submit(**ENDLESS)
    service.until(lambda: service.job(job_id)["progress"] > 0)

    assert service.http.delete(f"/jobs/{job_id}").json()["cancel_requested"] is True
    view = service.wait_for(job_id, "cancelled")

    assert view["progress"] < 100
    assert service.generate(duration=1).status_code == 200


def test_one_of_several_clips_in_a_batch_is_cancelled(service: Service) -> None:
    """The engine is kept busy meanwhile, so that the others form one batch."""
    busy = service.submit(**ENDLESS)
    service.until(lambda: service.job(busy)["progress"] > 0)
    jobs = [service.submit(duration=8 + place, steps=300, seed=place) for place in range(3)]
    service.http.delete(f"/jobs/{busy}").raise_for_status()
    service.until(lambda: service.job(jobs[1])["progress"] > 0)

    service.http.delete(f"/jobs/{jobs[1]}").raise_for_status()

    assert service.wait_for(jobs[1])["status"] == "cancelled"
    for place in (0, 2):
        view = service.wait_for(jobs[place], "succeeded")
        assert view["audio_duration"] == 8 + place
