"""The page and its files, as a browser gets them. What it does is tested in one: tests/browser."""

import re
from collections.abc import Iterator

import httpx
import pytest

from sa_ray.playground import page_files
from tests.support.service import Service

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
NAMED = re.compile(
    r"""(?:(?:href|src)="playground/|^(?:import|}) .*"\./)([\w-]+\.\w+)\"""", re.MULTILINE
)


@pytest.fixture
def stranger(service: Service) -> Iterator[httpx.Client]:
    """A client from elsewhere, whom a service without keys answers nothing but what is open."""
    headers = {"X-Forwarded-For": "192.0.2.1"}
    with httpx.Client(base_url=service.base_url, headers=headers) as client:
        yield client


def test_every_file_that_the_page_names_is_served_to_everybody(stranger: httpx.Client) -> None:
    assert stranger.get("/v1/models").status_code == 403
    page = stranger.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, TYPES["html"])
    seen, found = {"index.html"}, NAMED.findall(page.text)
    while found:
        name = found.pop()
        if name in seen:
            continue
        seen.add(name)
        answer = stranger.get(f"/playground/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            TYPES[name.rpartition(".")[2]],
        )
        found += NAMED.findall(answer.text)

    assert seen == set(page_files())


def test_the_page_may_load_nothing_from_elsewhere(stranger: httpx.Client) -> None:
    page = stranger.get("/")
    rules = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))

    assert rules["default-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "'none'")
    assert not re.search(r"unsafe|\*|https?:", " ".join(rules.values()))
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page.text)
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_file_is_sent_again_only_if_it_has_changed(stranger: httpx.Client) -> None:
    first = stranger.get("/playground/main.js")
    assert first.headers["cache-control"] == "no-cache"

    again = stranger.get("/playground/main.js", headers={"If-None-Match": first.headers["etag"]})
    other = stranger.get("/playground/main.js", headers={"If-None-Match": '"other"'})
    head = stranger.head("/playground/main.js")

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status_code, other.content) == (200, first.content)
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])


@pytest.mark.parametrize("name", ["__init__.py", "types.d.ts", "..%2Fapp.py", "%2e%2e/app.py", "x"])
def test_what_is_no_file_of_the_page_is_not_found(service: Service, name: str) -> None:
    assert service.http.get(f"/playground/{name}").status_code == 404


def test_addresses_in_the_page_are_relative(stranger: httpx.Client) -> None:
    """So that it works under a path that a proxy takes away."""
    page = stranger.get("/", headers={"X-Forwarded-Prefix": "/tts"})
    scripts = [file.content.decode() for name, file in page_files().items() if name[-3:] == ".js"]

    assert page.status_code == 200
    assert not re.search(r'(href|src)="/', page.text)
    assert not [found for text in scripts for found in re.findall(r"""["'`]/[\w$].*""", text)]
