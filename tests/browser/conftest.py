"""A service with its page, and a Chromium that opens it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.support.chromium import FLAGS, chromium
from tests.support.commands import stopped
from tests.support.deployment import Deploy
from tests.support.keys import write_keys
from tests.support.order import arrange
from tests.support.service import Service

from .studio import REMEMBER_BLOBS, Studio
from .watch import Watch

PATIENCE_MS = 60_000

Open = Callable[..., Studio]

Held = Callable[[], AbstractContextManager[None]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the service change its settings only once."""
    arrange(items, __file__, lambda fixtures: "key" in fixtures)
    if chromium() is None:
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip("NO CHROMIUM (Debian: chromium): no page tried"))


@pytest.fixture(scope="package")
def browser(base_url: str) -> Iterator[Browser]:
    """``base_url``: what Ray starts in this process has to be there before Playwright's loop."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def service(deploy: Deploy) -> Service:
    """The application with its small model loaded, in one replica: ``held`` holds all of it."""
    service = deploy(variants={"small-sfx": {"max_replicas": 1}})
    assert service.generate(duration=0.5).status_code == 200
    return service


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A user's browser, with nothing in its storage."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(REMEMBER_BLOBS)
    yield context
    context.close()


@pytest.fixture
def watch(context: BrowserContext) -> Iterator[Watch]:
    """Fails the test if the browser has complained."""
    watch = Watch(context)
    yield watch
    assert not watch.faults


@pytest.fixture
def open_page(context: BrowserContext, watch: Watch, service: Service) -> Open:
    """Opens the page in a new tab; of another address, if one is given."""

    def open_page(base_url: str | None = None) -> Studio:
        return Studio(context.new_page(), f"{base_url or service.base_url}/").open()

    return open_page


@pytest.fixture
def studio(open_page: Open) -> Studio:
    """A tab with the page."""
    return open_page()


@pytest.fixture
def held() -> Held:
    """Holds up what the small model makes, so that no job ends meanwhile."""
    return lambda: stopped("ray::ServeReplica:sa-ray:small-sfx")


@pytest.fixture
def key(deploy: Deploy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, str]:
    """A service that wants a key, and one that it takes."""
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    secrets = write_keys(path, {"name": "designer", "scopes": ["generate", "jobs:own"]})
    return deploy(api_keys_file=str(path)), secrets["designer"]
