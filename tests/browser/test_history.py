"""What the page keeps, over reloads and in all tabs."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import Held, Open
from .studio import Studio

pytestmark = pytest.mark.browser


def test_a_reload_goes_on_with_what_is_under_way(studio: Studio, held: Held) -> None:
    with held():
        studio.ask("a slow wave")
        expect(studio.job("a slow wave").get_by_role("progressbar")).to_be_visible()
        studio.reload()
        expect(studio.job("a slow wave").get_by_role("progressbar")).to_be_visible()

    clip = studio.clip(studio.job("a slow wave"))
    expect(studio.job("a slow wave").get_by_role("progressbar")).to_have_count(0)
    assert studio.play(clip).level > 0


def test_two_tabs_show_the_same(open_page: Open, held: Held) -> None:
    one, other = open_page(), open_page()

    with held():
        one.ask("a train that comes")
        expect(other.job("a train that comes").get_by_role("progressbar")).to_be_visible()

    for tab in (one, other):
        tab.clip(tab.job("a train that comes"))
    assert other.play(other.clip(other.job("a train that comes"))).level > 0


def test_what_was_made_and_what_is_liked_survives_a_reload(studio: Studio) -> None:
    liked = studio.make("a bird that sings")
    studio.make("a lorry")
    studio.press(liked, "Favourite")

    studio.reload()

    expect(studio.job("a lorry")).to_be_visible()
    clip = studio.clip(studio.job("a bird that sings"))
    liked_now = clip.get_by_role("button", name="Favourite", exact=True)
    expect(liked_now).to_have_attribute("aria-pressed", "true")
    other = studio.clip(studio.job("a lorry"))
    not_liked = other.get_by_role("button", name="Favourite", exact=True)
    expect(not_liked).to_have_attribute("aria-pressed", "false")

    studio.results.get_by_label("Favourites only", exact=True).click()
    expect(studio.job("a lorry")).to_be_hidden()
    expect(clip).to_be_visible()
    assert studio.play(clip).level > 0


def test_the_history_is_cleared(studio: Studio) -> None:
    studio.make("soon forgotten")

    studio.press(studio.results, "Clear history")
    studio.press(studio.dialog("Clear history"), "Keep it")
    studio.reload()
    expect(studio.job("soon forgotten")).to_be_visible()
    studio.press(studio.results, "Clear history")
    studio.press(studio.dialog("Clear history"), "Clear it")

    expect(studio.results.get_by_role("article")).to_have_count(0)
    studio.reload()
    expect(studio.results.get_by_role("article")).to_have_count(0)


def test_two_clips_are_compared_at_the_same_position(studio: Studio) -> None:
    job = studio.ask("a stream", seconds=40, Clips=2)
    for number, side in ((1, "A"), (2, "B")):
        expect(studio.compare).to_be_hidden()
        studio.press(studio.clip(job, number), side)
        chosen = studio.clip(job, number).get_by_role("button", name=side, exact=True)
        expect(chosen).to_have_attribute("aria-pressed", "true")
    expect(studio.compare).to_be_visible()

    studio.press(studio.compare, "Play both in turn")
    first = studio.hear()
    studio.clip(job, 1).get_by_role("slider", name="Position", exact=True).fill("20")
    studio.press(studio.compare, "Switch to B")
    expect(studio.compare.get_by_role("button", name="Switch to A", exact=True)).to_be_visible()
    second = studio.hear()

    assert studio.position >= 20
    assert first.source != second.source
    assert first.level > 0
    assert second.level > 0
    studio.press(studio.compare, "Pause")
    expect(studio.compare.get_by_role("button", name=re.compile("Play both"))).to_be_visible()
