"""A service that cannot be reached for a while."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests.support.fault_proxy import FaultProxy
from tests.support.service import Service

from .conftest import Held, Open
from .studio import jobs_of, sent
from .watch import Watch

pytestmark = pytest.mark.browser

LOST = "net::ERR_|Failed to load resource"


@pytest.fixture
def line(service: Service) -> Iterator[FaultProxy]:
    """What leads from the browser to the service."""
    with FaultProxy(int(service.base_url.rpartition(":")[2])) as line:
        yield line


def test_a_lost_connection_is_told_and_all_goes_on_when_it_is_back(
    open_page: Open, service: Service, line: FaultProxy, held: Held, watch: Watch
) -> None:
    studio = open_page(line.url)
    expect(studio.connection).to_be_empty()

    watch.allow(LOST)
    with held():
        job = studio.ask("an echo")
        expect(job.get_by_role("progressbar")).to_be_visible()
        job_id = sent(service, "an echo")
        line.refuse()
        expect(studio.connection).to_contain_text(re.compile("connection", re.IGNORECASE))
        expect(studio.connection).to_contain_text(re.compile("again", re.IGNORECASE))
    service.wait_for(job_id, "succeeded")
    expect(studio.job("an echo")).to_be_visible()
    line.pass_on()
    expect(studio.connection).to_be_empty()

    assert studio.play(studio.clip(job)).level > 0
    studio.make("as before")


def test_what_is_sent_meanwhile_is_made_once(
    open_page: Open, service: Service, line: FaultProxy, watch: Watch
) -> None:
    studio = open_page(line.url)
    expect(studio.preset).to_be_visible()  # the page has no other question under way
    watch.allow(LOST)
    line.lose_answers(1)  # so that the page cannot know that there is a job
    studio.ask("sent into the void")
    studio.clip(studio.job("sent into the void"))
    expect(studio.connection).to_be_empty()

    expect(studio.results.get_by_role("article")).to_have_count(1)
    assert len(jobs_of(service, "sent into the void")) == 1


def test_events_that_come_no_more_are_asked_for_anew(
    context: BrowserContext, open_page: Open, service: Service
) -> None:
    """As after a laptop's sleep: the connection is dead, and nobody has closed it."""
    context.clock.install()
    studio = open_page()
    streams: list[Route] = []

    def leave_the_first(route: Route) -> None:
        streams.append(route)
        if len(streams) > 1:
            route.continue_()

    studio.page.route("**/events", leave_the_first)
    with studio.page.expect_request("**/events"):
        job = studio.ask("after a sleep")
    service.wait_for(sent(service, "after a sleep"), "succeeded")
    expect(job.get_by_role("progressbar")).to_be_visible()
    context.clock.fast_forward(60_000)

    studio.clip(job)
