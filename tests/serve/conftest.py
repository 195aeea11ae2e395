"""The application as most tests want it."""

import pytest

from tests.support.deployment import Deploy
from tests.support.service import Service


@pytest.fixture(scope="module")
def service(deploy: Deploy) -> Service:
    """The application with its default settings."""
    return deploy()
