"""What clients and operators of the Stable Audio API server rely on, beyond other tests."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from sa_ray.app import wants_gpu
from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import (
    AudioInfo,
    GenerationRequest,
    Job,
    JobError,
    JobResult,
    JobView,
    ResolvedRequest,
    StorageBackend,
    StoredObject,
)
from sa_ray.jobs import JobSnapshot, lifecycle
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.serving.job_view import JobViews
from sa_ray.settings import StorageSettings, load_settings
from sa_ray.settings.reading import GROUPS
from sa_ray.storage import ObjectStores, object_key
from tests.support.secret_settings import settings_of

BASE_URL = "http://localhost:8000"
JOB_ID = "68e48e7af36c4d829e3797a0b3e7687c"
JOB_FIELDS = {
    "id", "status", "model", "duration", "steps", "created_at", "started_at", "completed_at",
    "download_url", "error", "storage_backend", "storage_key", "sample_rate",
}  # fmt: skip
R2 = {
    "storage_bucket": "sounds",
    "storage_endpoint_url": "https://account.r2.example.com",
    "storage_region": "auto",
    "storage_access_key_id": "id",
    "storage_secret_access_key": "hush",
    "storage_addressing": "path",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for group in GROUPS:
        for name in (name for field in group.model_fields for name in group.variables(field)):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def settled(request: GenerationRequest) -> ResolvedRequest:
    settings = load_settings()
    return resolve(request, settings.models, settings.limits, "procedural")


def queued() -> Job:
    request = settled(GenerationRequest(prompt="rain", duration=5, seed=3))
    return lifecycle.new_job(JOB_ID, request, 100.0)


def running() -> Job:
    return lifecycle.lease(queued(), "worker", 101.0)


def failed() -> Job:
    error = JobError(code="generation_failed", message="The engine ran out of memory.")
    return lifecycle.fail(running(), 1, error, 102.0)


def succeeded(storage: StorageSettings) -> Job:
    backend: StorageBackend = storage.storage_backend
    result = JobResult(
        audio=AudioInfo(
            engine="procedural",
            sample_rate=44_100,
            channels=2,
            duration=5.0,
            format="wav",
            generation_seconds=0.5,
        ),
        object=StoredObject(
            backend=backend, key=object_key(storage, JOB_ID, 1, "wav"), size=4, sha256="0" * 64
        ),
        upload_seconds=0.1,
    )
    return lifecycle.succeed(running(), 1, result, 103.0)


def view(job: Job, storage: StorageSettings | None = None) -> JobView:
    storage = storage or load_settings().storage
    snapshot = JobSnapshot(job, 1 if job.status == "queued" else None)
    return asyncio.run(JobViews(ObjectStores(storage)).one(snapshot, BASE_URL))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_every_model_name_and_repo_id_is_accepted_in_any_case(
    variant: str, change: Callable[[str], str]
) -> None:
    for name in (variant, f"stable-audio-3-{variant}", f"stabilityai/stable-audio-3-{variant}"):
        request = GenerationRequest(prompt="rain", model=change(name))

        assert settled(request).model == variant


def test_every_field_of_the_old_servers_request_reaches_the_engine() -> None:
    body = {
        "model": "medium",
        "prompt": "rain",
        "negative_prompt": "thunder",
        "duration": 12.5,
        "steps": 20,
        "cfg_scale": 3.5,
        "seed": 42,
        "chunked_decode": False,
    }

    resolved = settled(GenerationRequest.model_validate(body))

    assert resolved.model_dump(include=set(body)) == body


@pytest.mark.parametrize("cfg_scale", [0, 20])
@pytest.mark.parametrize("chunked_decode", [None, True, False])
def test_the_ends_of_cfg_scale_and_every_chunked_decode_are_accepted(
    cfg_scale: float, chunked_decode: bool | None
) -> None:
    request = GenerationRequest(prompt="x", cfg_scale=cfg_scale, chunked_decode=chunked_decode)

    resolved = settled(request)

    assert (resolved.cfg_scale, resolved.chunked_decode) == (cfg_scale, chunked_decode)


@pytest.mark.parametrize("make", [queued, running, failed])
def test_an_unfinished_or_failed_job_has_every_field_of_the_old_server(
    make: Callable[[], Job],
) -> None:
    job = make()
    shown = view(job)

    assert set(shown.model_dump()) >= JOB_FIELDS
    assert (shown.id, shown.status, shown.model) == (JOB_ID, job.status, "small-sfx")
    assert (shown.duration, shown.steps) == (5, 8)
    assert shown.storage_backend == "local"
    assert (shown.download_url, shown.storage_key, shown.sample_rate) == (None, None, None)
    assert (shown.started_at is None) == (job.status == "queued")
    assert (shown.completed_at is None) == (job.status != "failed")
    assert shown.error == ("The engine ran out of memory." if job.status == "failed" else None)


def test_a_succeeded_job_is_downloaded_from_the_service_while_no_bucket_is_set() -> None:
    shown = view(succeeded(load_settings().storage))

    assert set(shown.model_dump()) >= JOB_FIELDS
    assert (shown.status, shown.error) == ("succeeded", None)
    assert shown.download_url == f"{BASE_URL}/jobs/{JOB_ID}/audio"
    assert (shown.storage_backend, shown.storage_key) == ("local", f"{JOB_ID}.wav")
    assert shown.sample_rate == 44_100


def test_a_presigned_url_follows_endpoint_region_prefix_and_lifetime() -> None:
    storage = settings_of({**R2, "storage_prefix": "x/y", "presigned_url_expires": 60}).storage

    shown = view(succeeded(storage), storage)

    assert shown.storage_backend == "s3"
    assert shown.storage_key == f"x/y/{JOB_ID}.wav"
    url = urlsplit(shown.download_url or "")
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc) == ("https", "account.r2.example.com")
    assert url.path == f"/sounds/x/y/{JOB_ID}.wav"
    assert query["X-Amz-Expires"] == ["60"]
    assert "/auto/s3/" in query["X-Amz-Credential"][0]


def test_session_tokens_of_temporary_credentials_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "temporary")
    storage = settings_of(R2).storage

    shown = view(succeeded(storage), storage)

    query = parse_qs(urlsplit(shown.download_url or "").query)
    assert query["X-Amz-Security-Token"] == ["temporary"]


@pytest.mark.parametrize(("device", "wanted"), [("cuda", True), ("mps", False), ("cpu", False)])
def test_the_device_decides_whether_replicas_ask_for_gpus(device: str, wanted: bool) -> None:
    assert wants_gpu(load_settings({"device": device}).models) is wanted


def test_hf_token_wins_over_its_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "fallback")
    monkeypatch.setenv("HF_TOKEN", "first")

    token = load_settings().weights.hf_token

    assert token is not None
    assert token.get_secret_value() == "first"
