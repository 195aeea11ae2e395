"""Sounds made on the page: heard, cancelled, refused; by mouse and by keyboard alone."""

import re

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests.support.service import Service

from .conftest import Held, Open
from .studio import Studio, sent
from .watch import Watch

pytestmark = pytest.mark.browser

NOISE = 0.001
"""Level above which a clip is a sound."""


def test_a_sound_is_made_and_heard(studio: Studio) -> None:
    clip = studio.make("a church bell", seconds=20)
    sound = studio.play(clip)

    assert sound.seconds == pytest.approx(20, abs=0.05)
    assert sound.level > NOISE
    expect(clip.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    for picture in ("Waveform", "Spectrogram"):
        studio.wait_for_picture(clip, picture)
    expect(studio.job("a church bell").get_by_role("progressbar")).to_have_count(0)


def test_the_engine_is_told_in_the_header_and_at_each_clip(studio: Studio) -> None:
    expect(studio.engine).to_contain_text(re.compile("procedural", re.IGNORECASE))
    expect(studio.engine).to_contain_text(re.compile("stand-in", re.IGNORECASE))

    job = studio.ask("rain on a tin roof", Clips=2)

    for number in (1, 2):
        clip = studio.clip(job, number)
        expect(clip).to_contain_text(re.compile("procedural", re.IGNORECASE))


def test_a_seed_makes_the_same_sound_again(studio: Studio) -> None:
    clip = studio.make("wind")
    before = studio.download(clip)

    studio.press(clip, "Again with this seed")
    expect(studio.prompt).to_be_focused()
    expect(clip).to_contain_text(f"seed {studio.number('Seed').input_value()} ")
    studio.press(studio.form, "Generate")
    expect(studio.results.get_by_role("article", name="wind", exact=True)).to_have_count(2)

    assert studio.download(studio.clip(studio.job("wind"))) == before


def test_a_clip_is_made_again_as_a_loop(studio: Studio) -> None:
    clip = studio.make("a drum loop at 120 bpm", seconds=2, Seed=5)

    studio.press(clip, "Loop")
    expect(studio.results.get_by_role("article")).to_have_count(2)
    loop = studio.clip(studio.job("a drum loop at 120 bpm"))

    assert b"smpl" in studio.download(loop)
    expect(loop).to_contain_text("5")
    studio.press(loop, "Loop")
    studio.hear()
    assert studio.page.evaluate("() => document.querySelector('audio').loop")


def test_a_preset_fills_in_the_form(studio: Studio) -> None:
    studio.preset.select_option("Distant thunder")

    expect(studio.prompt).to_have_value(re.compile("thunder"))
    expect(studio.number("Length in seconds")).to_have_value("12")


def test_what_is_under_way_can_be_cancelled(studio: Studio, service: Service, held: Held) -> None:
    with held():
        job = studio.ask("a long thunder", seconds=30, Steps=50)
        expect(job.get_by_role("progressbar")).to_be_visible()
        job_id = sent(service, "a long thunder")
        studio.press(job, "Cancel")
        service.until(lambda: _is_to_end(service, job_id))

    expect(job).to_contain_text(re.compile("cancelled", re.IGNORECASE))
    expect(job.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
    expect(job.get_by_role("progressbar")).to_have_count(0)
    assert service.wait_for(job_id)["status"] == "cancelled"


def _is_to_end(service: Service, job_id: str) -> bool:
    view = service.job(job_id)
    return bool(view["cancel_requested"]) or view["status"] == "cancelled"


def test_a_refusal_is_shown_at_the_field_it_names(studio: Studio, watch: Watch) -> None:
    length = studio.number("Length in seconds")
    studio.prompt.fill("too long")
    length.fill("5000")

    watch.allow("422")
    studio.press(studio.form, "Generate")
    expect(length).to_have_attribute("aria-invalid", "true")
    expect(length).to_have_accessible_description(re.compile("120"))
    expect(studio.results.get_by_role("article")).to_have_count(0)

    studio.make("short enough")  # and then all is well again
    expect(length).not_to_have_attribute("aria-invalid", "true")


def test_a_refusal_of_no_field_is_an_alert(studio: Studio, watch: Watch) -> None:
    def misspell(route: Route) -> None:
        route.continue_(post_data=(route.request.post_data_json or {}) | {"misspelt": 1})

    studio.page.route("**/jobs", misspell)

    studio.prompt.fill("of an older page")
    watch.allow("422")
    studio.press(studio.form, "Generate")
    expect(studio.page.get_by_role("alert").filter(has_text="misspelt")).to_be_visible()


def test_the_page_is_of_use_before_it_knows_the_models(
    open_page: Open, context: BrowserContext, watch: Watch
) -> None:
    asked: list[Route] = []
    context.route("**/v1/models", lambda route: asked.append(route))
    studio = open_page()

    studio.make("a cock that crows", Steps=5)
    watch.allow("422")
    studio.ask("too long a crow", seconds=5000)
    length = studio.number("Length in seconds")
    expect(length).to_have_attribute("aria-invalid", "true")
    expect(studio.engine).to_be_empty()
    for route in asked:
        route.continue_()

    expect(studio.engine).not_to_be_empty()
    expect(studio.preset).to_be_visible()
    expect(studio.number("Steps")).to_have_value("5")
    expect(length).to_have_attribute("aria-invalid", "true")


def test_a_keyboard_is_enough(studio: Studio) -> None:
    keyboard = studio.page.keyboard
    studio.go_to(studio.prompt)
    keyboard.type("a door that creaks")
    length = studio.number("Length in seconds")
    studio.go_to(length)
    keyboard.press("Control+A")
    keyboard.type("2")
    keyboard.press("Enter")

    clip = studio.clip(studio.job("a door that creaks"))
    studio.go_to(clip.get_by_role("button", name="Play", exact=True))
    keyboard.press("Enter")

    assert studio.hear().level > NOISE
    keyboard.press("Enter")
    expect(clip.get_by_role("button", name="Play", exact=True)).to_be_focused()

    studio.go_to(studio.page.get_by_role("button", name="Keyboard", exact=True))
    keyboard.press("Enter")
    expect(studio.page.get_by_role("dialog")).to_contain_text("Ctrl")
    keyboard.press("Escape")
    expect(studio.page.get_by_role("dialog")).to_have_count(0)


def test_the_prompt_is_sent_by_control_and_enter(studio: Studio) -> None:
    studio.prompt.fill("a drop of water")
    studio.prompt.press("Control+Enter")

    expect(studio.job("a drop of water")).to_be_visible()
