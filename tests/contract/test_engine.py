"""The procedural engine keeps the contract; ``tests/upstream`` has the real one keep it."""

import pytest

from sa_ray.engines.procedural import ProceduralEngine
from tests.support.engine_contract import EngineContract


@pytest.fixture(scope="module")
def engine() -> ProceduralEngine:
    return ProceduralEngine("small-sfx")


class TestProceduralEngine(EngineContract):
    pass
