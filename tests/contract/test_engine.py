"""The procedural engine keeps the contract, here and in a process of its own.

``tests/upstream`` has the real one keep it.
"""

from collections.abc import Iterator

import pytest

from sa_ray.engines.procedural import ProceduralEngine
from sa_ray.engines.process import EngineProcess
from tests.support.engine_contract import EngineContract, StepwiseEngineContract


@pytest.fixture(scope="module")
def engine_process() -> Iterator[EngineProcess]:
    engine = EngineProcess("sa_ray.engines.procedural:ProceduralEngine", "small-sfx")
    yield engine
    engine.close()


class TestProceduralEngine(StepwiseEngineContract):
    @pytest.fixture
    def engine(self) -> ProceduralEngine:
        return ProceduralEngine("small-sfx")


class TestEngineProcess(EngineContract):
    @pytest.fixture
    def engine(self, engine_process: EngineProcess) -> EngineProcess:
        return engine_process
