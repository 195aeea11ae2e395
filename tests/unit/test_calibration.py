"""What a replica makes of the times of its batches, and keeps for the next start."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sa_ray.contracts import EngineName, ResolvedRequest
from sa_ray.engines import Audio, BatchOutcome, Generated
from sa_ray.engines.port import IsCancelled, OnStep
from sa_ray.engines.stable_audio.calibration import (
    REPEATS,
    Measure,
    calibrate,
    remembered,
    stopwatch,
)
from sa_ray.errors import GenerationError
from sa_ray.scheduling.costs import Calibration, Cost, cost_of
from tests.support.clock import Clock

ASSUMED = Cost(batch=9, row=9, second=9, sampling=0.6, guidance=2)
FOUND = Calibration(cost=ASSUMED, max_rows=4, max_seconds=120)


def request(length: float, prompt: str = "x") -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx", prompt=prompt, duration=length, steps=8, cfg_scale=1, seed=0
    )


def by(cost: Cost, asked: list[tuple[int, float]] | None = None) -> Measure:
    """Measure batches of a device that costs ``cost``."""

    def measure(rows: int, length: float) -> float:
        if asked is not None:
            asked.append((rows, length))
        return cost.of([request(length)] * rows)

    return measure


def found(measure: Measure, max_rows: int) -> Calibration:
    calibration = calibrate(measure, ASSUMED, max_rows)
    assert calibration is not None
    return calibration


def test_the_cost_is_what_the_batches_took() -> None:
    real = Cost(batch=0.019, row=0.0017, second=0.0004, sampling=0.6, guidance=2)

    cost = found(by(real), 8).cost

    assert cost.model_dump() == pytest.approx(real.model_dump())


@pytest.mark.parametrize("seed", range(20))
def test_no_part_of_the_cost_is_negative_and_the_whole_is_near(seed: int) -> None:
    noise = np.random.default_rng(seed)
    real = Cost(batch=0.02, row=0.0, second=0.001, sampling=0.6, guidance=2)
    measured: dict[tuple[int, float], float] = {}

    def measure(rows: int, length: float) -> float:
        took = by(real)(rows, length)
        assert took is not None
        return measured.setdefault((rows, length), took * noise.uniform(0.95, 1.05))

    cost = found(measure, 8).cost

    assert min(cost.batch, cost.row, cost.second) >= 0
    for (rows, length), took in measured.items():
        assert cost.of([request(length)] * rows) == pytest.approx(took, rel=0.15)


@pytest.mark.parametrize(
    ("cost", "most", "rows", "seconds"),
    [
        (cost_of("small-sfx", "stable-audio-3", gpu=True), 8, 8, 240.0),
        (cost_of("small-sfx", "stable-audio-3", gpu=True), 64, 32, 240.0),
        (cost_of("medium", "stable-audio-3", gpu=True), 4, 4, 120.0),
        (cost_of("small-sfx", "stable-audio-3", gpu=False), 8, 1, 30.0),
        (Cost(batch=1, row=0, second=0, sampling=0, guidance=1), 64, 64, 64 * 30.0),
    ],
    ids=["small, H100", "small, H100, 64 rows", "medium, H100", "small, CPU", "without end"],
)
def test_rows_end_where_twice_as_many_take_nearly_twice_as_long(
    cost: Cost, most: int, rows: int, seconds: float
) -> None:
    calibration = found(by(cost), most)

    assert (calibration.max_rows, calibration.max_seconds) == (rows, seconds)


def test_nothing_larger_is_tried_than_the_engine_is_loaded_for_or_than_paid() -> None:
    asked: list[tuple[int, float]] = []
    cost = Cost(batch=1, row=0.1, second=0.01, sampling=0, guidance=1)

    calibration = found(by(cost, asked), 6)

    assert [rows for rows, length in asked if length == 5] == [1, 2, 4, 6]
    assert calibration.max_rows == 6

    asked.clear()
    found(by(cost_of("medium", "stable-audio-3", gpu=False), asked), 8)
    assert asked == [(1, 5), (2, 5), (1, 30), (2, 30)]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "takes as long as its halves"])
def test_rows_end_where_memory_does(fails: bool) -> None:
    cost = Cost(batch=1, row=0, second=0, sampling=0, guidance=1)

    def measure(rows: int, length: float) -> float | None:
        if rows * length <= 60:
            return by(cost)(rows, length)
        return None if fails else rows * length / 60 * 2.5

    calibration = found(measure, 64)

    assert calibration.max_rows == 8
    assert calibration.max_seconds == 60


def test_what_cannot_run_at_all_is_not_calibrated() -> None:
    assert calibrate(lambda rows, length: None, ASSUMED, 8) is None
    assert calibrate(lambda rows, length: 1 if length == 5 else None, ASSUMED, 8) is None


class TimedEngine:
    """Takes a second for each row, the first time ten of them; fails beyond ``most`` rows."""

    name: EngineName = "stable-audio-3"
    device = "cuda"
    sample_rate = 44_100
    slowdown = None
    calibration = None

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self.prompts: list[str] = []

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        self._clock.now += len(batch) * (1 if self.prompts else 10)
        self.prompts += [one.prompt for one in batch]
        if len(batch) > self._most:
            return [GenerationError("The GPU has too little memory.")] * len(batch)
        return [Generated(np.zeros((2, 10), np.float32)) for _ in batch]


def test_the_first_run_of_a_batch_does_not_count_and_no_prompt_comes_twice() -> None:
    clock = Clock()
    engine = TimedEngine(clock, most=4)

    measure = stopwatch(engine, request, lambda: clock.now)

    assert measure(2, 5.0) == 2
    assert measure(8, 5.0) is None
    assert len(set(engine.prompts)) == len(engine.prompts) == (2 + 8) * (1 + REPEATS)


def counted(result: Calibration | None, calls: list[None]) -> Callable[[], Calibration | None]:
    def measure() -> Calibration | None:
        calls.append(None)
        return result

    return measure


def test_the_next_start_on_the_same_device_and_version_measures_nothing(tmp_path: Path) -> None:
    calls: list[None] = []
    folder = tmp_path / "new"

    for key in ({"device": "A", "version": 1}, {"version": 1, "device": "A"}):
        assert remembered(folder, key, counted(FOUND, calls)) == FOUND
    assert len(calls) == 1

    for key in ({"device": "B", "version": 1}, {"device": "A", "version": 2}):
        assert remembered(folder, key, counted(FOUND, calls)) == FOUND
    assert len(calls) == 3
    assert len(list(folder.iterdir())) == 3


def test_what_failed_is_measured_again(tmp_path: Path) -> None:
    calls: list[None] = []
    for _ in range(2):
        assert remembered(tmp_path, {}, counted(None, calls)) is None
    assert len(calls) == 2


@pytest.mark.parametrize("kept", [b"", b"{}", b"\xff\xfe", b'{"max_rows": 0}'])
def test_what_cannot_be_read_is_measured_again(tmp_path: Path, kept: bytes) -> None:
    calls: list[None] = []
    remembered(tmp_path, {}, counted(FOUND, calls))
    [file] = tmp_path.iterdir()
    file.write_bytes(kept)

    for _ in range(2):
        assert remembered(tmp_path, {}, counted(FOUND, calls)) == FOUND
    assert len(calls) == 2


def test_where_nothing_can_be_kept_each_start_measures(tmp_path: Path) -> None:
    calls: list[None] = []
    (tmp_path / "a file").touch()
    for _ in range(2):
        assert remembered(tmp_path / "a file", {}, counted(FOUND, calls)) == FOUND
    assert len(calls) == 2
