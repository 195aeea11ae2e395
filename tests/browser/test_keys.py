"""A page of a service that wants keys."""

import pytest
from playwright.sync_api import expect

from tests.support.service import Service

from .conftest import Open
from .studio import Studio
from .watch import Watch

pytestmark = pytest.mark.browser


def use(studio: Studio, key: str, *, keep: bool = False) -> None:
    dialog = studio.dialog("API key")
    dialog.get_by_label("API key", exact=True).fill(key)
    dialog.get_by_role("checkbox", name="Keep it in this browser", exact=True).set_checked(keep)
    dialog.get_by_role("button", name="Use this key", exact=True).click()


def test_a_key_is_asked_for_tried_and_kept_as_told(
    key: tuple[Service, str], open_page: Open, watch: Watch
) -> None:
    service, secret = key
    watch.allow("401")
    studio = open_page(service.base_url)
    dialog = studio.dialog("API key")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("API key", exact=True)).to_have_attribute("type", "password")

    use(studio, f"{secret[:-4]}0000")
    expect(dialog).to_contain_text("does not take this key")
    use(studio, secret)
    expect(dialog).to_be_hidden()
    assert studio.play(studio.make("a lock that opens")).level > 0

    studio.reload()
    studio.clip(studio.job("a lock that opens"))
    expect(dialog).to_be_hidden()

    other = open_page(service.base_url)
    expect(other.dialog("API key")).to_be_visible()
    use(other, secret, keep=True)
    expect(other.dialog("API key")).to_be_hidden()
    third = open_page(service.base_url)
    assert third.play(third.clip(third.job("a lock that opens"))).level > 0
    expect(third.dialog("API key")).to_be_hidden()
