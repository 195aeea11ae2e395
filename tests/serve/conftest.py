"""The application as most tests want it."""

import pytest

from tests.support.deployment import Deploy
from tests.support.object_stores import s3_settings
from tests.support.order import arrange
from tests.support.s3_server import S3Server
from tests.support.service import Service
from tests.support.signing import Identity, identity
from tests.support.webhook_receiver import SECRET

MOST = 3
"""How many may wait for jobs of ``signing``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have tests of the same settings follow each other: every change of them is a deploy."""
    arrange(items, __file__, place)


def place(fixtures: frozenset[str]) -> int:
    places = {"on_s3": 3, "signing": 2, "service": 0}  # tests of edits have two of them
    return next((place for name, place in places.items() if name in fixtures), 1)


@pytest.fixture(scope="module")
def service(deploy: Deploy) -> Service:
    """The application with its default settings."""
    return deploy()


@pytest.fixture(scope="module")
def calling(deploy: Deploy) -> Service:
    """The application that calls webhooks on this machine, with two ingress replicas."""
    return deploy(webhook_secret=SECRET, webhook_allow_private=True, ingress_replicas=2)


@pytest.fixture(scope="module")
def on_s3(deploy: Deploy, s3_server: S3Server) -> Service:
    """The application with its objects in a bucket."""
    return deploy(**s3_settings(s3_server, presigned_url_expires=120))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def signing(deploy: Deploy, files: Identity) -> Service:
    """The application that signs what it makes, and in which few may wait."""
    certificate, key = str(files.certificate), str(files.key)
    return deploy(c2pa_certificate=certificate, c2pa_key=key, max_waiting_requests=MOST)
