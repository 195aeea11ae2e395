"""What the page looks like to those who see it, and to those who have it read to them."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from .conftest import Open
from .studio import Studio

pytestmark = pytest.mark.browser

GRAVE = ("serious", "critical")

WIDTHS = (390, 768, 1280, 1920, 2560)

STICKS_OUT = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  return [...document.body.querySelectorAll("*")]
    .filter(element => element.getBoundingClientRect().right > room)
    .map(element => element.outerHTML.slice(0, 100));
}"""
"""Returns what makes the page scroll sideways."""


@pytest.fixture
def full(open_page: Open) -> Studio:
    """The page with all that it can show at once: results, a comparison, and an edit."""
    studio = open_page()
    job = studio.ask("a waterfall behind the trees, and " + "a very long prompt " * 12, Clips=2)
    for number, side in ((1, "A"), (2, "B")):
        studio.press(studio.clip(job, number), side)
    expect(studio.compare).to_be_visible()
    studio.press(studio.clip(job), "Inpaint here")
    expect(studio.parts).to_be_visible()
    studio.press(studio.form, "Add a part")
    studio.form.get_by_text("More", exact=True).click()
    expect(studio.form.get_by_label("Negative prompt", exact=True)).to_be_visible()
    return studio


def grave_faults(studio: Studio) -> list[str]:
    found = Axe().run(studio.page).response["violations"]
    return [
        f"{fault['id']}: {node['html']}"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(
    studio: Studio, full: Studio, scheme: Literal["light", "dark"]
) -> None:
    for tab in (studio, full):
        tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert grave_faults(studio) == []
    assert grave_faults(full) == []
    studio.press(studio.page.locator("body"), "Keyboard")
    assert grave_faults(studio) == []


def test_nothing_sticks_out_at_any_width(full: Studio) -> None:
    for width in WIDTHS:
        full.page.set_viewport_size({"width": width, "height": 900})
        wide = full.page.evaluate(STICKS_OUT)
        assert wide == [], f"at {width} px"
