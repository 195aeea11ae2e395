"""Fixtures for every kind of test."""

import signal
from collections.abc import Iterator

import pytest

from tests.servers import S3Server, seaweedfs


def pytest_configure() -> None:
    # A shell has what it starts in the background ignore SIGINT, nohup SIGHUP, and so would all
    # that tests start, of which some are to be ended so. What is handled here is not ignored there.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, lambda *_: None),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server. A test that stops it starts it again."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
