"""What a page stands: markup in prompts, a broken or full storage, a busy service, held keys."""

import json

import pytest
from playwright.sync_api import Route, expect

from tests.support.service import Service

from .conftest import Open
from .studio import Studio
from .watch import Watch

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=alert(1)> & rain"

KEPT = {"key": "1", "id": "x", "at": 1, "request": {"prompt": "kept"}, "favourites": []}
END = {
    "status": "failed",
    "error": "no",
    "model": "",
    "format": "",
    "engine": None,
    "made_in": None,
}
GARBAGE = [
    None,
    1,
    {},
    {**KEPT, "key": 2, "end": None},
    {**KEPT, "request": None, "end": None},
    {**KEPT, "favourites": None, "end": None},
    {**KEPT, "end": 7},
    {**KEPT, "end": END},
    {**KEPT, "end": END | {"results": [None]}},
    {**KEPT, "end": END | {"results": [], "made_in": "long"}},
]

KEEP = "([name, text]) => localStorage.setItem(`sa-ray/${name}`, text)"

FILL_STORAGE = """() => {
  for (let size = 1 << 20; size >= 1; size /= 2)
    for (let at = 0; ; at++)
      try { localStorage.setItem(`other/${size}/${at}`, "x".repeat(size)); } catch { break; }
}"""


def hold(studio: Studio, key: str) -> None:
    """Press a key for as long as it takes to repeat."""
    for _ in range(5):
        studio.page.keyboard.down(key)
    studio.page.keyboard.up(key)


def test_markup_in_a_prompt_is_text(studio: Studio) -> None:
    clip = studio.make(MARKUP)
    studio.press(clip, "A")

    expect(studio.job(MARKUP).get_by_role("heading")).to_have_text(MARKUP)
    expect(studio.page.locator("main img")).to_have_count(0)


def test_garbage_in_the_storage_is_passed_over(studio: Studio) -> None:
    kept = {**KEPT, "end": END | {"results": []}}
    for name, text in [("history", json.dumps([*GARBAGE, kept])), ("theme", "loud")]:
        studio.page.evaluate(KEEP, [name, text])
    studio.reload()

    expect(studio.results.get_by_role("article", name="kept")).to_have_count(1)
    expect(studio.results.get_by_role("article")).to_have_count(1)
    expect(studio.page.get_by_role("combobox", name="Theme")).to_have_value("system")
    studio.make("goes on")


def test_a_clip_is_shown_where_the_storage_is_full(studio: Studio) -> None:
    studio.page.evaluate(FILL_STORAGE)

    assert studio.play(studio.make("no room")).level > 0


def test_a_key_can_be_given_later_and_mistyped(
    open_page: Open, key: tuple[Service, str], watch: Watch
) -> None:
    watch.allow("401")
    service, secret = key
    studio = open_page(service.base_url)
    asked = studio.dialog("API key")
    studio.press(asked, "Not now")
    expect(asked).to_be_hidden()
    studio.ask("later")
    for typed in ("ключ", secret):  # the first is none that a header takes
        field = asked.get_by_label("API key", exact=True)
        expect(field).to_have_value("")
        field.fill(typed)
        studio.press(asked, "Use this key")

    studio.clip(studio.job("later"))
    expect(studio.engine).to_contain_text("engine")


def test_a_busy_service_is_left_alone_for_a_second_at_least(studio: Studio, watch: Watch) -> None:
    def refuse(route: Route) -> None:
        error = {"error": {"code": "overloaded", "message": "Busy.", "param": None}}
        route.fulfill(status=429, headers={"Retry-After": "0"}, json=error)

    watch.allow("429")
    studio.page.route("**/jobs", refuse)
    job = studio.ask("patient")
    expect(job).to_contain_text("asks again in 1 s")
    studio.page.unroute("**/jobs")

    studio.clip(job)


def test_a_key_that_is_held_sends_once(studio: Studio) -> None:
    studio.prompt.fill("held")
    studio.page.keyboard.down("Control")
    hold(studio, "Enter")
    studio.page.keyboard.up("Control")
    clip = studio.clip(studio.job("held"))
    clip.focus()
    hold(studio, "l")

    expect(studio.results.get_by_role("article")).to_have_count(2)


def test_what_is_forgotten_is_not_compared(studio: Studio) -> None:
    for side in "AB":
        studio.press(studio.make(f"side {side}"), side)
    expect(studio.compare).to_be_visible()
    studio.press(studio.results, "Clear history")
    studio.press(studio.dialog("Clear history"), "Clear it")

    expect(studio.results.get_by_role("article")).to_have_count(0)
    expect(studio.compare).to_be_hidden()
