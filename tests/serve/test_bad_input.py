"""Every fault of the caller's gets a 4xx of the one shape, naming the field and the fix."""

import base64
import uuid
from typing import Any

import httpx
import pytest

from tests.support.service import Service

ENDPOINTS = ["/v1/audio/generations", "/generate", "/jobs"]

BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ""}, "prompt", "at least 1"),
    ({"prompt": "   "}, "prompt", "at least 1"),
    ({"prompt": "x" * 10_001}, "prompt", "10000"),
    ({"prompt": None}, "prompt", "string"),
    ({"prompt": 5}, "prompt", "string"),
    ({"prompt": "nul\u0000"}, "prompt", "NUL"),
    ({"negative_prompt": "x" * 10_001}, "negative_prompt", "10000"),
    ({"model": "large"}, "model", "small-sfx"),
    ({"model": 7}, "model", "string"),
    ({"duration": 0}, "duration", "0.01"),
    ({"duration": -1}, "duration", "0.01"),
    ({"duration": 1e9}, "duration", "120"),
    ({"duration": 120.5}, "duration", "medium"),
    ({"duration": 381, "model": "medium"}, "duration", "380"),
    ({"duration": "7"}, "duration", "number"),
    ({"duration": True}, "duration", "number"),
    ({"steps": 0}, "steps", "1"),
    ({"steps": 51}, "steps", "STABLE_AUDIO_MAX_STEPS"),
    ({"steps": 2.5}, "steps", "integer"),
    ({"steps": 51.0}, "steps", "STABLE_AUDIO_MAX_STEPS"),
    ({"steps": "8.0"}, "steps", "integer"),
    ({"steps": 1e300}, "steps", "integer"),
    ({"steps": 10**30}, "steps", "50"),
    ({"cfg_scale": -0.1}, "cfg_scale", "0"),
    ({"cfg_scale": 20.1}, "cfg_scale", "20"),
    ({"apg_scale": 1.1}, "apg_scale", "1"),
    ({"apg_scale": 0.5}, "apg_scale", "Leave it out"),
    ({"sampler": "ddim"}, "sampler", "pingpong"),
    ({"sampler": "euler"}, "sampler", "Leave it out"),
    ({"loras": [{"name": "rain"}]}, "loras", "Leave it out"),
    ({"loras": [{"name": "../rain"}]}, "loras.0.name", "GET /v1/loras"),
    ({"loras": [{"name": "a"}, {"strength": 1}]}, "loras.1.name", "required"),
    ({"loras": [{"name": "rain", "strength": 10.1}]}, "loras.0.strength", "10"),
    ({"loras": [{"name": "rain", "weight": 1}]}, "loras.0.weight", "unknown"),
    ({"loras": [{"name": name} for name in "abcde"]}, "loras", "4"),
    ({"seed": -2}, "seed", "-1"),
    ({"seed": 2**32}, "seed", "4294967295"),
    ({"seed": 1e300}, "seed", "integer"),
    ({"format": "aac"}, "format", "wav"),
    ({"chunked_decode": "yes"}, "chunked_decode", "boolean"),
    ({"lenght": 3}, "lenght", "The fields are model, prompt"),
    ({"negativePrompt": "x"}, "negativePrompt", "did you mean negative_prompt"),
    ({"CFG-Scale": 3}, "CFG-Scale", "did you mean cfg_scale"),
    ({"step": 3}, "step", "did you mean steps"),
]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_each_bad_field_is_named_with_its_limit(service: Service, path: str) -> None:
    for fields, param, hint in BAD_FIELDS:
        response = service.http.post(path, json={"prompt": "rain"} | fields)

        assert response.status_code == 422, (fields, response.text)
        error = response.json()["error"]
        assert error["code"] == "invalid_request"
        assert error["param"] == param
        assert hint in error["message"], error
        assert param in error["message"], error
        assert error["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("field", "sync", "jobs"),
    [
        ("webhookUrl", "only POST /jobs takes webhook_url", "did you mean webhook_url"),
        ("prority", "only POST /jobs takes priority", "did you mean priority"),
        ("expires_in", "only POST /jobs takes expires_in", None),
    ],
)
def test_a_field_is_hinted_at_where_it_belongs(
    service: Service, field: str, sync: str, jobs: str | None
) -> None:
    body = {"prompt": "rain", "duration": 0.1, field: 60}

    for path in ENDPOINTS:
        response = service.http.post(path, json=body)
        expected = jobs if path == "/jobs" else sync
        assert (response.status_code == 422) == (expected is not None)
        if expected:
            assert expected in response.json()["error"]["message"]


def test_a_whole_number_may_be_written_with_a_point(service: Service) -> None:
    body = b'{"prompt": "rain", "duration": 1, "steps": 8.0, "seed": 7.0}'
    headers = {"Content-Type": "application/json"}

    response = service.http.post("/jobs", content=body, headers=headers)

    assert response.status_code == 202, response.text
    job = service.job(response.json()["id"])
    assert (job["steps"], job["seed"]) == (8, 7)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 422),
        (b'"rain"', 422),
        (b"null", 422),
        (b'{"prompt": "rain", "duration": NaN}', 422),
        (b'{"prompt": "rain", "duration": Infinity}', 422),
        (b'{"prompt": "rain", "duration": 1e400}', 422),
        (b'{"prompt": "\xff"}', 400),
        (b'{"prompt": "\\ud800"}', 422),
        (b"[" * 100_000, 400),
        (b'{"prompt": "' + b"x" * 10_000_000 + b'"}', 413),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else str(value),
)
def test_each_bad_body_is_a_4xx_of_the_one_shape(
    service: Service, body: bytes, status: int
) -> None:
    for path in ENDPOINTS:
        response = service.http.post(
            path, content=body, headers={"Content-Type": "application/json"}
        )

        assert response.status_code == status, response.text
        assert set(response.json()["error"]) == {"code", "message", "param", "request_id"}


def test_a_body_without_a_length_is_bounded_too(service: Service) -> None:
    def endless() -> Any:
        yield b'{"prompt": "'
        for _ in range(100):
            yield b"x" * 100_000

    response = service.http.post(
        "/jobs", content=endless(), headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 413


def test_a_form_is_refused_with_the_fix(service: Service) -> None:
    response = service.http.post("/jobs", data={"prompt": "rain"})

    assert response.status_code == 415
    assert "application/json" in response.json()["error"]["message"]


def test_an_encoded_body_is_refused_with_the_fix(service: Service) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = service.http.post("/jobs", content=b"\x1f\x8b", headers=headers)

    assert response.status_code == 415
    assert "Content-Encoding" in response.json()["error"]["message"]


@pytest.mark.parametrize("value", [b"", "å".encode("latin-1"), b"\xff\xfe", "å".encode()])
def test_a_request_id_that_cannot_be_repeated_is_replaced(service: Service, value: bytes) -> None:
    for path in ("/health", "/v2/nothing"):
        response = httpx.get(service.base_url + path, headers={"X-Request-Id": value})

        assert response.status_code in (200, 404)
        assert uuid.UUID(response.headers["x-request-id"])
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    "job_id",
    ["0" * 32, "F" * 32, "0" * 31, "nope", "..%2f..%2fetc%2fpasswd", "%00", "' OR 1=1 --", "🔔"],
)
def test_unknown_and_odd_job_ids_are_not_found(service: Service, job_id: str) -> None:
    for method, path in [
        ("GET", f"/jobs/{job_id}"),
        ("DELETE", f"/jobs/{job_id}"),
        ("GET", f"/jobs/{job_id}/audio"),
    ]:
        response = service.http.request(method, path)

        assert response.status_code == 404
        assert response.json()["error"]["code"] in ("job_not_found", "not_found")


def cursor(created_at: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at} {'0' * 32}".encode()).decode()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=%00",
        "cursor=AAAA",
        "cursor=é",
        *(f"cursor={cursor(number)}" for number in ("nan", "inf", "-inf", "1e999")),
    ],
)
def test_bad_list_parameters(service: Service, query: str) -> None:
    response = service.http.get(f"/jobs?{query}")

    assert response.status_code == 422
    assert response.json()["error"]["param"] == query.split("=")[0]


def test_unknown_paths_and_methods_have_the_one_shape(service: Service) -> None:
    missing = service.http.get("/v2/nothing")
    wrong = service.http.put("/jobs", json={})

    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "allow" in wrong.headers
