"""Wrong, missing, revoked and foreign keys on every route of a running service, and floods."""

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sa_ray.access import new_secret
from sa_ray.access.keys_file import hash_text
from sa_ray.local import LocalService
from tests.support.keys import put_keys

pytestmark = pytest.mark.attack

DEADLINE_S = 60.0
POLL_S = 0.2

A_MINUTE = 40

ENTRIES: list[dict[str, Any]] = [
    {"name": "maker", "scopes": ["generate"]},
    {"name": "reader", "scopes": ["jobs:own"]},
    {"name": "operator", "scopes": ["admin"]},
    {"name": "limited", "limits": {"requests_per_minute": A_MINUTE}},
    {"name": "kept", "limits": {"models": ["small-music"]}},
]
"""Keys by what they may."""

BODY = b'{"prompt": "rain", "duration": '
"""No JSON: whoever reads it answers 400."""


@dataclass(frozen=True)
class Keyed:
    """A service with keys."""

    service: LocalService
    path: Path
    secrets: dict[str, str]

    def ask(self, method: str, path: str, secret: str | None, **options: Any) -> httpx.Response:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        headers |= options.pop("headers", {})
        url = f"{self.service.base_url}{path}"
        return httpx.request(method, url, headers=headers, timeout=60, **options)

    def put(self, *without: str) -> None:
        put_keys(
            self.path,
            (
                {"hash": hash_text(self.secrets[entry["name"]])} | entry
                for entry in ENTRIES
                if entry["name"] not in without
            ),
        )

    @property
    def log(self) -> str:
        return self.service.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    path = folder / "keys.yaml"
    secrets = {entry["name"]: new_secret() for entry in ENTRIES}
    put_keys(path, ({"hash": hash_text(secrets[entry["name"]])} | entry for entry in ENTRIES))
    args = {
        "jobs_url": f"sqlite:///{folder}/jobs.db",
        "output_dir": f"{folder}/outputs",
        "api_keys_file": str(path),
    }
    with LocalService(folder, args) as service:
        service.wait_until_ready()
        yield Keyed(service, path, secrets)


@pytest.fixture(scope="module")
def operations(keyed: Keyed) -> list[tuple[str, str, dict[str, Any]]]:
    """Every route of the service, by its own document, which needs no key."""
    document = httpx.get(f"{keyed.service.base_url}/openapi.json").json()
    return [
        (method.upper(), re.sub(r"\{\w+\}", "0" * 32, path), operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def shape(answer: httpx.Response) -> tuple[int, str, set[str]]:
    """All of an answer but for its id and date, in the shape of whichever API it is of."""
    told = answer.text.replace(answer.headers["x-request-id"], "")
    return answer.status_code, told, set(answer.headers)


def test_no_route_but_health_answers_without_a_valid_key(
    keyed: Keyed, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    assert len(operations) > 15
    tried = [None, "sar_" + "A" * 43, keyed.secrets["operator"][:-1], "sar_", "x" * 10_000]
    opened = []
    for method, path, operation in operations:
        sent = {"content": BODY, "headers": {"Content-Type": "application/json"}}
        options = sent if method == "POST" else {}
        answers = [keyed.ask(method, path, secret, **options) for secret in tried]
        if "security" not in operation:
            opened.append(path)
            assert {answer.status_code for answer in answers} == {200}
            assert {json.dumps(list(answer.json())) for answer in answers} == {'["status"]'}
            continue
        shapes = [shape(answer) for answer in answers]
        assert shapes == [shapes[0]] * len(tried), (method, path)
        assert shapes[0][:1] == (401,), (method, path)
        assert "This needs a valid key" in shapes[0][1]
        assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert opened == ["/health"]


def test_every_route_is_closed_to_a_key_of_another_scope(
    keyed: Keyed, operations: list[tuple[str, str, dict[str, Any]]]
) -> None:
    others = {"generate": "reader", "jobs:own": "maker", "admin": "maker"}
    checked = 0
    for method, path, operation in operations:
        if (scope := operation.get("x-scope")) is None:
            continue
        refused = keyed.ask(method, path, keyed.secrets[others[scope]])
        let_in = keyed.ask(method, path, keyed.secrets["operator"])

        assert refused.status_code == 403, (method, path)
        assert f"has not the scope {scope}," in refused.text
        assert let_in.status_code not in (401, 403), (method, path)
        checked += 1
    assert checked > 12


@pytest.mark.parametrize("path", ["//jobs", "/jobs//", "/./jobs", "/JOBS", "/jobs%2F", "/%6aobs"])
def test_no_spelling_of_a_path_leads_around_the_check(keyed: Keyed, path: str) -> None:
    prefixed = {"X-Forwarded-Prefix": "/health"}

    for headers in ({}, prefixed):
        assert keyed.ask("GET", path, None, headers=headers).status_code == 401
        assert keyed.ask("POST", f"{path}?path=/health", None, headers=headers).status_code == 401


def test_a_file_is_not_waited_for_from_who_has_no_key(keyed: Keyed) -> None:
    """The answer comes while the body does not."""
    head = (
        b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        b"Content-Type: application/octet-stream\r\nxi-api-key: sar_wrong\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", keyed.service.port), timeout=60) as connection:
        connection.sendall(head)

        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401")


def test_the_detail_of_the_health_is_for_admins(keyed: Keyed) -> None:
    told = {
        name: keyed.ask("GET", "/health", keyed.secrets[name]) for name in ("maker", "operator")
    }

    assert list(told["maker"].json()) == ["status"]
    assert told["operator"].json()["version"]


def test_a_model_that_a_key_is_kept_from_is_refused_by_field(keyed: Keyed) -> None:
    body = {"prompt": "rain", "model": "small-sfx", "duration": 0.5}
    for path in ("/v1/audio/generations", "/jobs"):
        answer = keyed.ask("POST", path, keyed.secrets["kept"], json=body)

        assert answer.status_code == 403
        assert answer.json()["error"]["param"] == "model"
    batch = keyed.ask("POST", "/jobs/batch", keyed.secrets["kept"], json={"requests": [body]})
    assert batch.json()["jobs"][0]["error"]["code"] == "not_permitted"


def test_a_flood_is_answered_429_and_leaves_others_alone(keyed: Keyed) -> None:
    answers = [
        keyed.ask("GET", "/v1/models", keyed.secrets["limited"]) for _ in range(3 * A_MINUTE)
    ]

    passed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(passed) + len(refused) == 3 * A_MINUTE
    # Where the machine takes its time, a second minute begins meanwhile.
    assert A_MINUTE <= len(passed) < 3 * A_MINUTE
    for answer in refused:
        assert answer.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["ratelimit"].startswith('"requests";r=0;t=')
    assert passed[0].headers["ratelimit-policy"] == f'"requests";q={A_MINUTE};w=60'
    assert keyed.ask("GET", "/v1/models", keyed.secrets["maker"]).status_code == 200


def test_a_revoked_key_is_refused_soon_and_one_given_back_taken(keyed: Keyed) -> None:
    def becomes(status: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while keyed.ask("GET", "/v1/models", keyed.secrets["reader"]).status_code != status:
            assert time.monotonic() < deadline
            time.sleep(POLL_S)

    becomes(200)
    keyed.put("reader")
    becomes(401)
    keyed.path.write_text("keys: [")  # revokes nobody else, and lets nobody in
    assert keyed.ask("GET", "/v1/models", keyed.secrets["maker"]).status_code == 200
    keyed.put()
    becomes(200)


def test_the_audit_log_says_who_did_what_and_has_no_key(keyed: Keyed) -> None:
    prompt = "a prompt that nobody should read"
    body = {"prompt": prompt, "duration": 0.5}
    submitted = keyed.ask("POST", "/jobs", keyed.secrets["maker"], json=body).json()["id"]
    keyed.ask("GET", f"/jobs/{submitted}?wait=60", keyed.secrets["operator"])
    deleted = keyed.ask("DELETE", f"/jobs/{submitted}", keyed.secrets["operator"])
    assert deleted.status_code == 204
    assert keyed.ask("GET", "/jobs", None).status_code == 401
    assert keyed.ask("GET", "/jobs", keyed.secrets["maker"]).status_code == 403

    wanted = {
        ("maker", "submitted", submitted, "done"),
        ("operator", "deleted", submitted, "done"),
        ("?", "refused", "", "invalid_api_key"),
        ("maker", "refused", "", "missing_scope"),
    }
    deadline = time.monotonic() + DEADLINE_S
    while not wanted <= (told := audited(keyed.log)):
        assert time.monotonic() < deadline, wanted - told
        time.sleep(POLL_S)
    assert prompt not in keyed.log
    assert not any(secret in keyed.log for secret in keyed.secrets.values())


def audited(log: str) -> set[tuple[str, str, str, str]]:
    lines = (json.loads(found) for found in re.findall(r"\{.*sa_ray\.audit.*\}", log))
    return {
        (line["who"], line["what"], line["id"], line["outcome"]) for line in lines if "who" in line
    }
