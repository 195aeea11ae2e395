"""Fixtures for every kind of test."""

from collections.abc import Iterator

import pytest

from tests.servers import S3Server, seaweedfs


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server. A test that stops it starts it again."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server
