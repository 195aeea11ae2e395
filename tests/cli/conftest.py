from uuid import uuid4

import pytest


@pytest.fixture
def mark() -> str:
    return uuid4().hex
