"""The real engine in a process of its own, as a replica loads it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sa_ray.contracts import VariantName
from sa_ray.engines import Engine, load_engine
from sa_ray.engines.port import EngineOptions
from sa_ray.engines.process import EngineProcess
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.errors import ConfigurationError
from tests.support.engine_contract import FROM_AUDIO, EngineContract, clips, tone, wanted

pytestmark = pytest.mark.upstream

AS_HERE = EngineOptions(device="cpu", half=False, cpu_threads=1)


@pytest.fixture(scope="module")
def engine_process(hub_cache: Path) -> Iterator[Engine]:
    engine = load_engine("stable-audio-3", "small-sfx", AS_HERE)
    yield engine
    engine.close()


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self, engine_process: Engine) -> Engine:
        return engine_process


def test_it_is_there_and_makes_what_the_engine_makes_here(
    engine_process: Engine, load: Callable[[VariantName], StableAudioEngine]
) -> None:
    here = load("small-sfx")
    batch, sources = [wanted(), wanted("wind", duration=1.5, **FROM_AUDIO)], [None, tone(330, 1.5)]

    made, expected = (clips(one, *batch, sources=sources) for one in (engine_process, here))

    assert isinstance(engine_process, EngineProcess)
    assert engine_process.calibration == here.calibration
    for samples, same in zip(made, expected, strict=True):
        np.testing.assert_array_equal(samples, same)


def test_what_an_operator_has_to_change_is_told(hub_cache: Path, tmp_path: Path) -> None:
    options = EngineOptions(device="cpu", weights_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="no folder medium"):
        load_engine("stable-audio-3", "medium", options)
