"""Where results go: S3 over a real server, public URLs, and storage that does not work."""

import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
import soundfile as sf

from tests.support.deployment import Deploy
from tests.support.object_stores import keys, s3_settings
from tests.support.s3_server import S3Server
from tests.support.secret_settings import settings_of
from tests.support.service import Service


def test_a_job_lands_in_the_bucket_behind_a_presigned_url(on_s3: Service) -> None:
    job_id = on_s3.submit(format="flac")
    view = on_s3.wait_for(job_id)

    assert view["status"] == "succeeded", view
    assert view["storage_backend"] == "s3"
    assert view["storage_key"] == f"stable-audio/jobs/{job_id}.flac"
    assert parse_qs(urlsplit(view["download_url"]).query)["X-Amz-Expires"] == ["120"]

    fetched = httpx.get(view["download_url"])
    assert fetched.status_code == 200
    assert fetched.headers["content-type"] == "audio/flac"
    assert len(fetched.content) == view["size_bytes"]

    tampered = view["download_url"].replace(job_id, "0" * 32)
    assert httpx.get(tampered).status_code == 403


def test_the_audio_route_redirects_to_a_fresh_url(on_s3: Service) -> None:
    job_id = on_s3.submit()
    view = on_s3.wait_for(job_id)

    answer = on_s3.http.get(f"/jobs/{job_id}/audio")

    assert answer.status_code == 302
    assert len(httpx.get(answer.headers["location"]).content) == view["size_bytes"]


def test_the_audio_comes_through_the_service_where_no_redirect_is_wanted(on_s3: Service) -> None:
    job_id = on_s3.submit()
    view = on_s3.wait_for(job_id)

    answer = on_s3.http.get(f"/jobs/{job_id}/audio", params={"redirect": "false"})

    assert answer.status_code == 200
    assert sha256(answer.content).hexdigest() == view["sha256"]
    assert answer.content == httpx.get(view["download_url"]).content


def test_deleting_a_job_deletes_its_object(on_s3: Service) -> None:
    job_id = on_s3.submit()
    url = on_s3.wait_for(job_id)["download_url"]
    assert httpx.get(url).status_code == 200

    assert on_s3.http.delete(f"/jobs/{job_id}").status_code == 204

    assert httpx.get(url).status_code == 404


def test_an_outage_delays_a_job_and_loses_nothing(on_s3: Service, s3_server: S3Server) -> None:
    s3_server.stop()
    try:
        job_id = on_s3.submit(seed=3)
        on_s3.until(lambda: on_s3.job(job_id)["progress"] == 100)
        assert on_s3.job(job_id)["status"] == "running"
        on_s3.until(lambda: not on_s3.health().storage.ok)
        assert on_s3.health().status == "degraded"
    finally:
        s3_server.start()

    view = on_s3.wait_for(job_id)

    assert view["status"] == "succeeded", view
    assert view["attempts"] == 1, "the audio already made was used"
    assert httpx.get(view["download_url"]).status_code == 200


@dataclass(frozen=True)
class Moved:
    """A service that keeps objects in a bucket, and a job of when they were in a folder."""

    service: Service
    job_id: str
    audio: Path


@pytest.fixture(scope="module")
def moved(deploy: Deploy, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    jobs_url = f"sqlite:///{tmp_path_factory.mktemp('moved')}/jobs.db"
    before = deploy(jobs_url=jobs_url)
    job_id = before.submit()
    before.wait_for(job_id)
    changed = {"storage_public_base_url": "https://cdn.example.com/x/", "upload_ttl": 5}
    service = deploy(jobs_url=jobs_url, **s3_settings(s3_server, **changed))
    return Moved(service, job_id, before.outputs / f"{job_id}.wav")


@pytest.mark.cluster
def test_audio_in_a_store_that_is_no_longer_reached_is_told(moved: Moved) -> None:
    service, job_id = moved.service, moved.job_id

    download = service.http.get(f"/jobs/{job_id}/audio")
    deletion = service.http.delete(f"/jobs/{job_id}")

    assert service.job(job_id)["download_url"] is None
    assert (download.status_code, deletion.status_code) == (410, 409)
    for answer in (download, deletion):
        assert "log" in answer.json()["error"]["message"]
        assert str(moved.audio.parent) not in answer.text
    assert deletion.json()["error"]["code"] == "audio_elsewhere"
    assert moved.audio.exists()


@pytest.mark.cluster
def test_a_public_base_url_replaces_presigning(moved: Moved) -> None:
    job_id = moved.service.submit()

    view = moved.service.wait_for(job_id)

    assert view["download_url"] == f"https://cdn.example.com/x/stable-audio/jobs/{job_id}.wav"


@pytest.mark.cluster
def test_uploads_lie_in_the_bucket_for_their_time(moved: Moved, s3_server: S3Server) -> None:
    def left() -> list[str]:
        return keys(settings_of(s3_settings(s3_server)).storage, "stable-audio/jobs/uploads/")

    file = io.BytesIO()
    sf.write(file, np.zeros(44_100, np.int16), 44_100, format="WAV")
    answer = moved.service.http.post(
        "/v1/uploads", content=file.getvalue(), headers={"Content-Type": "audio/wav"}
    )

    assert answer.status_code == 201, answer.text
    upload_id = answer.json()["id"]
    names = (f"{upload_id}.flac", f"{upload_id}.json")
    own = {f"stable-audio/jobs/uploads/{name}" for name in names}
    assert own <= set(left())  # beside those of another service of these tests
    moved.service.until(
        lambda: moved.service.http.get(f"/v1/uploads/{upload_id}").status_code == 404
    )
    moved.service.until(lambda: own.isdisjoint(left()))


def test_a_wrong_secret_is_told_at_start_and_in_health(deploy: Deploy, s3_server: S3Server) -> None:
    wrong = s3_settings(s3_server, storage_secret_access_key="not-the-secret")
    service = deploy(**wrong, preload_models="")

    health = service.health()

    assert health.status == "degraded"
    assert not health.storage.ok
    assert health.storage.message is not None
    assert "AWS_SECRET_ACCESS_KEY" in health.storage.message
    assert "not-the-secret" not in health.storage.message


def test_an_unwritable_output_folder_is_told_at_start_and_in_health(
    deploy: Deploy, tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("in the way")

    health = deploy(output_dir=str(blocked / "outputs"), preload_models="").health()

    assert health.status == "degraded"
    assert not health.storage.ok
    assert health.storage.message is not None
    assert "STABLE_AUDIO_OUTPUT_DIR" in health.storage.message
