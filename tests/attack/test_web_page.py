"""A web page, of any origin and also by DNS rebinding, changes nothing and reads nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.chromium import chromium
from tests.support.service import SLOW, Service, local_settings

from .conftest import Target
from .web_page import HOST_OF_REBOUND, Browser, pages

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(
        chromium() is None,
        reason="NO CHROMIUM (Debian: chromium): no web page attacked",
    ),
]

CHANGES = ("post JSON", "post text", "post a form's type", "post without a type", "generate",
           "cancel", "delete")  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A service with two jobs, one that runs for a while and one that has ended, and a browser in
    which its user opens pages of strangers."""

    service: Service
    browser: Browser
    pages_port: int
    running: str
    ended: str
    others: frozenset[str]
    """Jobs from before."""

    def visit(self, page: str, service: str) -> dict[str, object]:
        return self.browser.visit(page, service=service, running=self.running, ended=self.ended)

    def jobs(self) -> dict[str, bool]:
        """The jobs, and whether any is to be cancelled or was."""
        return {
            job["id"]: job["cancel_requested"] or job["status"] == "cancelled"
            for job in listed(self.service)
            if job["id"] not in self.others
        }


def listed(service: Service) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = service.http.get("/jobs?limit=200").json()["jobs"]
    return jobs


@pytest.fixture(scope="module")
def scene(target: Target) -> Iterator[Scene]:
    service = Service(target.service.base_url, local_settings(target.folder))
    others = frozenset(job["id"] for job in listed(service))
    ended = service.submit(duration=1)
    service.wait_for(ended, "succeeded")
    with pages(target.service.port) as (browser, pages_port):
        yield Scene(service, browser, pages_port, service.submit(**SLOW), ended, others)


@pytest.mark.parametrize(
    ("page", "service"),
    [
        ("http://evil.example:{pages}/page", "http://localhost:{port}"),
        ("http://evil.example:{pages}/page", "http://127.0.0.1:{port}"),
        ("http://localhost:{pages}/page", "http://localhost:{port}"),
        ("http://evil.example:{pages}/page-without-origin", "http://localhost:{port}"),
        ("http://rebound.example:{port}/page", ""),
    ],
    ids=["of another site", "at an address", "of another port", "without an origin", "rebound"],
)
def test_a_page_of_a_stranger_changes_nothing(
    target: Target, scene: Scene, page: str, service: str
) -> None:
    ports = {"port": target.service.port, "pages": scene.pages_port}
    before = scene.jobs()

    outcomes = scene.visit(page.format(**ports), service.format(**ports))

    print(page, outcomes)
    assert scene.jobs() == before
    assert not any(before.values())
    assert outcomes["read the jobs"] in ("TypeError", 421)
    assert {outcomes[change] for change in CHANGES} <= {"TypeError", "opaque", 403, 421}


def test_a_page_of_the_services_own_may(target: Target, scene: Scene) -> None:
    """The same page, so that what the others fail at is not their own fault."""
    before = scene.jobs()

    outcomes = scene.visit(f"http://{HOST_OF_REBOUND}:{target.service.port}/page", "")

    after = scene.jobs()
    assert (outcomes["post JSON"], outcomes["generate"], outcomes["delete"]) == (202, 200, 204)
    assert outcomes["read the jobs"] == 200
    deleted = {scene.ended}
    if outcomes["cancel"] == 204:  # it had ended, too
        deleted.add(scene.running)
    else:
        assert outcomes["cancel"] == 200
    assert before.keys() - after.keys() == deleted
    assert len(after.keys() - before.keys()) == 2, "the call and the beacon"


def test_the_refusals_say_what_to_set(target: Target) -> None:
    def refusal(**headers: str) -> tuple[int, str, str]:
        answer = httpx.post(f"{target.service.base_url}/jobs", json={}, headers=headers)
        error = answer.json()["error"]
        assert error["request_id"] == answer.headers["x-request-id"]
        return answer.status_code, error["code"], error["message"]

    assert refusal(host="evil.example")[:2] == (421, "misdirected_request")
    assert "STABLE_AUDIO_ALLOWED_HOSTS" in refusal(host="evil.example")[2]
    assert refusal(origin="http://evil.example")[:2] == (403, "foreign_origin")
    assert "STABLE_AUDIO_ALLOWED_ORIGINS" in refusal(origin="http://evil.example")[2]
