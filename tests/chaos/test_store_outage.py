"""The server that keeps the jobs is killed under load and comes back."""

import time
from collections.abc import Callable

import pytest

from .load import Chaos

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

OUTAGES = 2
OUTAGE_S = 3.0


@pytest.mark.parametrize("name", ["PostgreSQL", "Redis"])
def test_what_was_made_is_kept_while_the_job_store_is_away(
    request: pytest.FixtureRequest, deploy: Callable[[str], Chaos], name: str
) -> None:
    if name == "PostgreSQL":
        server = request.getfixturevalue("postgresql_server")
        url = server.create_database("chaos")
    else:
        server = request.getfixturevalue("redis_db")
        url = server.url()
    chaos = deploy(url)
    chaos.run_calmly()

    load = chaos.start(name)
    for _ in range(OUTAGES):
        time.sleep(2)
        server.kill()
        time.sleep(OUTAGE_S)
        server.start()
    views = chaos.finish(name, OUTAGES, load)

    assert {view["attempts"] for view in views} == {1}, "no clip was made twice"
