"""A service with an address, names and web pages of its own."""

import httpx
import pytest

from tests.support.deployment import Deploy
from tests.support.service import Service

PUBLIC = "https://audio.example/tts"
STUDIO = "https://studio.example"


@pytest.fixture(scope="module")
def published(deploy: Deploy) -> Service:
    return deploy(
        public_url=PUBLIC,
        allowed_hosts="sa-ray.internal",
        allowed_origins=STUDIO,
        allow_anonymous=True,  # proxies pass requests on
    )


def test_every_url_is_on_the_public_one(published: Service) -> None:
    headers = {
        "Host": "sa-ray.internal:8000",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "http",
    }
    with httpx.Client(base_url=published.base_url, headers=headers) as http:
        accepted = http.post("/jobs", json={"prompt": "rain", "duration": 0.5})
        job = accepted.json()
        view = http.get(f"/jobs/{job['id']}?wait=60").json()
        listed = http.get("/jobs").json()["jobs"][0]

        url = f"{PUBLIC}/jobs/{job['id']}"
        assert accepted.headers["location"] == job["status_url"] == view["status_url"] == url
        assert view["download_url"] == listed["download_url"] == f"{url}/audio"
        assert http.get("/jobs/").headers["location"] == f"{PUBLIC}/jobs"
        assert "'/tts/openapi.json'" in http.get("/docs").text
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/tts"}]


def test_under_a_path_a_job_is_told_of_the_fields_of_jobs(published: Service) -> None:
    """It was taken for a clip there, and of its own fields none was hinted at."""
    answer = published.http.post("/jobs", json={"prompt": "rain", "prority": "high"})

    assert "did you mean priority" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["audio.example", "sa-ray.internal:8000", "localhost", "[::1]"])
def test_its_names_are_answered(published: Service, host: str) -> None:
    assert published.http.get("/health", headers={"Host": host}).status_code == 200


def test_other_names_are_refused_with_the_setting(published: Service) -> None:
    answer = published.http.get("/health", headers={"Host": "evil.example"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (421, "misdirected_request")
    assert "evil.example" in error["message"]
    assert "STABLE_AUDIO_ALLOWED_HOSTS" in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


def test_pages_of_allowed_origins_may_use_it(published: Service) -> None:
    body = {"prompt": "rain", "duration": 0.5}
    answers = {
        origin: published.http.post("/jobs", json=body, headers={"Origin": origin})
        for origin in (STUDIO, "https://audio.example", "https://evil.example")
    }

    assert [answer.status_code for answer in answers.values()] == [202, 202, 403]
    assert answers[STUDIO].headers["access-control-allow-origin"] == STUDIO
    assert "Location" in answers[STUDIO].headers["access-control-expose-headers"]
    assert answers["https://evil.example"].json()["error"]["code"] == "foreign_origin"
    assert "access-control-allow-origin" not in answers["https://evil.example"].headers
