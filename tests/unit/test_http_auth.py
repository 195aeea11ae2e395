"""Who is let in, by key, scope and address, before anything of a body is read."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from sa_ray.access import Keyring
from sa_ray.contracts.access import Caller
from sa_ray.errors import InvalidKeyError
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.auth import CALLER, Authentication, caller_now
from sa_ray.serving.ingress.route_scopes import NEEDED
from sa_ray.settings import EdgeSettings, LimitSettings
from tests.support.keys import put_keys, write_keys

STRANGER = ("192.0.2.1", 5)
LOCAL = ("127.0.0.1", 5)

DOCUMENT = build_http_app(EdgeSettings(), LimitSettings()).openapi()

OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]

SCOPES = ("generate", "jobs:own", "jobs:all", "admin")


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: Any
    caller: Caller | None
    """Whom the application was told of; None: the request did not come through."""


class Door:
    """The check, and what is let in by it."""

    def __init__(self, keyring: Keyring, *, allow_anonymous: bool = False) -> None:
        self._app = Authentication(self._inside, keyring, allow_anonymous=allow_anonymous)
        self.let_in: Scope = {}

    async def _inside(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.let_in = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(
        self,
        method: str = "GET",
        path: str = "/jobs",
        *headers: tuple[str, str],
        client: tuple[str, int] = STRANGER,
    ) -> Answer:
        self.let_in = {}
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError("the body was asked for")

        async def send(message: Message) -> None:
            sent.append(message)

        given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": given,
            "client": client,
            "query_string": b"",
        }
        await self._app(scope, receive, send)
        caller = self.let_in.get(CALLER)
        return Answer(
            sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"]), caller
        )


class Keys(NamedTuple):
    path: Path
    keyring: Keyring
    secrets: dict[str, str]

    def bearer(self, name: str) -> tuple[str, str]:
        return "authorization", f"Bearer {self.secrets[name]}"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    path = tmp_path / "keys.yaml"
    named = ({"name": scope.replace(":", "-"), "scopes": [scope]} for scope in SCOPES)
    secrets = write_keys(path, *named)
    return Keys(path, Keyring(path), secrets)


@pytest.fixture
def door(keys: Keys) -> Door:
    return Door(keys.keyring)


def test_every_route_says_what_it_needs() -> None:
    """Or it is there for admins alone: add it to ``NEEDED``."""
    operations = {(method, path) for method, path, _ in OPERATIONS}

    assert operations - NEEDED.keys() == set()
    assert {path for _, path in NEEDED.keys() - operations} == {
        *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"),
        *("/", "/playground/{name}"),
    }


def test_the_document_says_what_each_route_needs() -> None:
    open_to_all = {(method, path) for method, path, one in OPERATIONS if "security" not in one}
    scopes = {(method, path): one.get("x-scope") for method, path, one in OPERATIONS}

    assert open_to_all == {("GET", "/health")}
    assert scopes["POST", "/jobs"] == "generate"
    assert scopes["DELETE", "/jobs/{job_id}"] == "jobs:own"
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"bearer", "xi-api-key"}


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_a_route_is_there_for_its_scope_alone(
    keys: Keys, door: Door, method: str, path: str, operation: dict[str, Any]
) -> None:
    path = path.replace("{job_id}", "0" * 32).replace("{upload_id}", "0" * 32)
    scope = operation.get("x-scope")

    nobody = await door.ask(method, path)
    assert nobody.status == (401 if "security" in operation else 200)
    for name in keys.secrets:
        answer = await door.ask(method, path, keys.bearer(name))
        has = {"jobs-all": {"jobs:all", "jobs:own"}, "jobs-own": {"jobs:own"}}.get(name, {name})
        if scope is None or scope in has or name == "admin":
            assert answer.status == 200
            assert answer.caller
            assert answer.caller.name == name
        else:
            assert answer.status == 403
            assert answer.body["error"]["code"] == "missing_scope"
            assert scope in answer.body["error"]["message"]
            assert name in answer.body["error"]["message"]


@pytest.mark.parametrize("path", ["/", "", "/playground/main.js"])
async def test_the_page_is_there_for_everybody(door: Door, path: str) -> None:
    """It asks for the key, and so comes without one."""
    assert (await door.ask("GET", path)).status == 200
    assert (await door.ask("HEAD", path)).status == 200
    assert (await door.ask("POST", path)).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer sar_wrong")],
        [("authorization", "Bearer \xff\xfe")],
        [("authorization", "Basic YWxpY2U6YWxpY2U=")],
        [("authorization", "{admin}")],
        [("authorization", "Bearer {admin}x")],
        [("authorization", "Bearer {ADMIN}")],
        [("xi-api-key", "")],
        [("xi-api-key", "x{admin}")],
        [("authorization", "Bearer wrong"), ("xi-api-key", "{admin}")],
        [("cookie", "authorization={admin}"), ("x-api-key", "{admin}")],
    ],
    ids=repr,
)
async def test_all_without_a_valid_key_get_the_same_answer(
    keys: Keys, door: Door, headers: list[tuple[str, str]]
) -> None:
    admin = keys.secrets["admin"]
    given = [(name, text.format(admin=admin, ADMIN=admin.upper())) for name, text in headers]
    nothing = await door.ask("POST", "/jobs")

    answer = await door.ask("POST", "/jobs", *given)

    assert answer == nothing
    assert (answer.status, answer.body["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("authorization", "Bearer {}"),
        ("authorization", "bearer  {} "),
        ("xi-api-key", "{}"),
    ],
)
async def test_a_key_comes_in_either_header_and_goes_no_further(
    keys: Keys, door: Door, name: str, form: str
) -> None:
    answer = await door.ask(
        "POST", "/jobs", (name, form.format(keys.secrets["generate"])), ("accept", "*/*")
    )

    assert answer.status == 200
    assert door.let_in["headers"] == [(b"accept", b"*/*")]


async def test_a_revoked_key_is_as_a_wrong_one(keys: Keys, door: Door) -> None:
    held = keys.bearer("admin")
    assert (await door.ask("GET", "/jobs", held)).status == 200

    write_keys(keys.path, {"name": "other"})
    keys.keyring.look()

    assert await door.ask("GET", "/jobs", held) == await door.ask("GET", "/jobs")


async def test_a_key_that_is_revoked_meanwhile_is_noticed_by_long_answers(
    keys: Keys, door: Door
) -> None:
    await door.ask("GET", "/jobs", keys.bearer("jobs-own"))
    http = Request(door.let_in)
    assert caller_now(http).name == "jobs-own"

    entry = yaml.safe_load(keys.path.read_text())["keys"][1]
    put_keys(keys.path, [entry | {"scopes": ["jobs:all"]}])
    keys.keyring.look()
    assert caller_now(http).may("jobs:all")
    put_keys(keys.path, [])
    keys.keyring.look()

    with pytest.raises(InvalidKeyError):
        caller_now(http)


@pytest.mark.parametrize("path", ["/nothing", "/jobs/x/y", "/v1/uploads/x/y", "/-/"])
async def test_what_no_route_serves_is_nothing_to_a_key_and_closed_without(
    keys: Keys, door: Door, path: str
) -> None:
    assert (await door.ask("GET", path)).status == 401
    assert (await door.ask("GET", path, keys.bearer("generate"))).status == 404
    assert (await door.ask("GET", path, keys.bearer("admin"))).status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "get"])
async def test_a_method_that_a_route_has_not_is_closed(door: Door, method: str) -> None:
    assert (await door.ask(method, "/jobs")).status == 401


async def test_head_needs_what_get_needs(keys: Keys, door: Door) -> None:
    assert (await door.ask("HEAD", "/jobs")).status == 401
    assert (await door.ask("HEAD", "/jobs", keys.bearer("generate"))).status == 403
    assert (await door.ask("HEAD", "/jobs", keys.bearer("jobs-own"))).status == 200


async def test_without_keys_this_machine_is_answered_and_no_other() -> None:
    door = Door(Keyring())

    own = await door.ask("POST", "/jobs", client=LOCAL)
    other = await door.ask("POST", "/jobs")
    passed_on = await door.ask("POST", "/jobs", ("x-forwarded-for", "127.0.0.1"), client=LOCAL)

    assert own.caller
    assert (own.status, own.caller.name) == (200, "")
    assert other.status == passed_on.status == 403
    assert other.body["error"]["code"] == "anonymous_refused"
    for remedy in ("STABLE_AUDIO_API_KEYS_FILE", "STABLE_AUDIO_ALLOW_ANONYMOUS=true"):
        assert remedy in other.body["error"]["message"]
    assert b"www-authenticate" not in other.headers


async def test_without_keys_all_are_answered_where_the_operator_says_so() -> None:
    door = Door(Keyring(), allow_anonymous=True)

    answer = await door.ask("POST", "/jobs", ("authorization", "Bearer something"))

    assert answer.caller
    assert (answer.status, answer.caller.name) == (200, "")


async def test_a_probe_hears_of_the_health_from_anywhere(keys: Keys) -> None:
    for door in (Door(keys.keyring), Door(Keyring())):
        answer = await door.ask("GET", "/health")

        assert answer.status == 200
        assert answer.caller
        assert not any(answer.caller.may(scope) for scope in SCOPES)  # type: ignore[arg-type]
        assert not answer.caller.sees("")


async def test_who_was_refused_is_in_the_audit_log_without_the_key(
    keys: Keys, door: Door, log: pytest.LogCaptureFixture
) -> None:
    await door.ask("POST", "/jobs", ("authorization", "Bearer sar_secret"))
    await door.ask("POST", "/jobs", keys.bearer("jobs-own"))
    for _ in range(200):
        await door.ask("POST", "/jobs")

    lines = [record for record in log.records if record.name == "sa_ray.audit"]
    assert 2 < len(lines) < 100
    assert "sar_" not in log.text


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("sa_ray")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.propagate = before
