"""Which names a service answers to, and which web pages may change something."""

import socket
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from sa_ray.errors import ConfigurationError
from sa_ray.serving.ingress.app import build_http_app
from sa_ray.serving.ingress.origins import Origins
from sa_ray.settings import EdgeSettings, LimitSettings, load_settings

OWN = "service.example:8000"


async def ask(method: str = "GET", path: str = "/", *, edge: Any = None, **headers: str) -> Any:
    """Send one request to an application behind the check."""
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def cookies(request: Request) -> dict[str, str]:
        return request.cookies

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<button>Delete everything</button>")

    settings = load_settings({"allowed_hosts": "service.example"} | (edge or {})).edge
    transport = httpx.ASGITransport(Origins(app, settings))
    sent = {name.replace("_", "-"): value for name, value in ({"host": OWN} | headers).items()}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, headers=sent)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8000", "10.1.2.3:80", "[::1]:8000", "[fd00::1]"),
        *("localhost", "LOCALHOST:8000", "localhost.", "sa-ray.localhost:1"),
        *("service.example", "Service.Example:443", "a.under.example", "public.example:8443"),
        socket.gethostname(),
    ],
)
async def test_a_name_of_the_service_is_answered(host: str) -> None:
    edge = {
        "allowed_hosts": "service.example, *.under.example",
        "public_url": "https://public.example/tts",
    }

    assert (await ask(host=host, edge=edge)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "xlocalhost"),
        *("127.0.0.1.evil.example", "under.example", "xunder.example", "a.service.example"),
        *(
            "",
            " ",
            ":8000",
            "localhost:port",
            "localhost@evil.example",
            "localhost/",
            "[::1",
            "[x]",
        ),
        *("evil.example, localhost", "a" * 60_000, "0x7f.1", "127.1"),
    ],
)
async def test_another_name_is_refused(host: str) -> None:
    answer = await ask(host=host, edge={"allowed_hosts": "service.example, *.under.example"})

    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "misdirected_request"
    assert len(answer.content) < 1_000


async def test_every_name_is_answered_where_that_is_asked_for() -> None:
    assert (await ask(host="evil.example", edge={"allowed_hosts": "*"})).status_code == 200


async def test_two_names_are_one_too_many() -> None:
    called = []
    scope = {
        "type": "http",
        "method": "GET",
        "headers": [(b"host", b"localhost"), (b"host", b"evil.example")],
    }

    async def send(message: Any) -> None:
        called.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await Origins(FastAPI(), EdgeSettings())(scope, receive, send)

    assert called[0]["status"] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://service.example"},
        {"origin": "http://service.example:8001"},
        {"origin": "http://service.example.evil.example:8000"},
        {"origin": "file://service.example:8000"},
        {"origin": "http://service.example:port"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": f"http://{OWN}", "sec_fetch_site": "same-site"},
        {"origin": "http://evil.example", "sec_fetch_site": ""},
    ],
)
async def test_a_page_of_another_origin_changes_nothing(
    method: str, headers: dict[str, str]
) -> None:
    answer = await ask(method, **headers)

    assert answer.status_code == 403
    error = answer.json()["error"]
    assert error["code"] == "foreign_origin"
    assert "STABLE_AUDIO_ALLOWED_ORIGINS" in error["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": f"http://{OWN}"},
        {"origin": "https://public.example:8443", "sec_fetch_site": "same-origin"},
        {"origin": "http://behind.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": "https://public.example:8443"},
        {"origin": "https://studio.example", "sec_fetch_site": "cross-site"},
        {"host": "service.example", "origin": "https://service.example"},
        {"host": "service.example:443", "origin": "https://service.example"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
    ],
)
async def test_scripts_and_the_services_own_pages_may(headers: dict[str, str]) -> None:
    edge = {
        "public_url": "https://public.example:8443/tts",
        "allowed_origins": "https://Studio.example:443/, http://localhost:3000",
    }

    assert (await ask("DELETE", edge=edge, **headers)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_changes_nothing_is_answered_whoever_asks(method: str) -> None:
    assert (await ask(method, origin="http://evil.example")).status_code != 403


async def test_pages_cannot_be_framed() -> None:
    page, data = await ask(path="/page"), await ask()

    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "content-security-policy" not in data.headers


@pytest.mark.timeout(60)
async def test_cookies_are_not_read() -> None:
    """One of escapes takes quadratic time where Python has not mended that: here, for ever."""
    hostile = 'a="' + "\\" * 4_000_000 + '"'

    assert (await ask(cookie=hostile)).json() == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("allowed_hosts", value) for value in ("http://a.test", "a.test:80", "a.test/x", "a b")),
        *(("allowed_hosts", value) for value in ("*.", "*a.test", "a.*.test", "\u00e9.test")),
        *(("allowed_origins", value) for value in ("a.test", "*", "https://a.test/x", "null")),
        *(("allowed_origins", value) for value in ("ftp://a.test", "https://*.a.test")),
        *(("compatible_apis", value) for value in ("openay", "none,openai", "http://a.test")),
    ],
)
def test_what_is_no_name_or_origin_is_refused_at_the_start(setting: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        load_settings({setting: value})


async def test_only_allowed_pages_are_told_that_they_may() -> None:
    edge = load_settings({"allowed_origins": "https://studio.example"}).edge
    transport = httpx.ASGITransport(build_http_app(edge, LimitSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answers = {
            origin: await client.options(
                "/jobs",
                headers={
                    "Origin": origin,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "content-type, idempotency-key",
                },
            )
            for origin in ("https://studio.example", "https://evil.example")
        }

    allowed, refused = answers.values()
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://studio.example"
    assert "idempotency-key" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in refused.headers


async def test_other_apis_can_be_switched_off_one_by_one() -> None:
    kept = load_settings({"compatible_apis": "OpenAI"}).edge
    none = load_settings({"compatible_apis": "none"}).edge
    spoken, silent = (
        set(build_http_app(edge, LimitSettings()).openapi()["paths"]) for edge in (kept, none)
    )

    assert spoken - silent == {"/v1/audio/speech"}
    transport = httpx.ASGITransport(build_http_app(none, LimitSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.post("/v1/audio/speech", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["request_id"] is not None
