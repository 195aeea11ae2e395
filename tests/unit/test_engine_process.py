"""An engine in a process of its own, whatever becomes of that or of this one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sa_ray.engines import (
    Audio,
    Cancelled,
    DeviceLostError,
    Generated,
    load_engine,
    resolve_engine_name,
)
from sa_ray.engines.procedural import ProceduralEngine
from sa_ray.engines.process import EngineProcess
from sa_ray.engines.process.sample_slots import KEPT
from sa_ray.errors import ConfigurationError, GenerationError, UnavailableError
from tests.support.engine_contract import FROM_AUDIO, clips, tone, wanted
from tests.support.process_engine import CALIBRATION, LOADER

DEADLINE_S = 30.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    engine = EngineProcess(LOADER, "small-sfx")
    yield engine
    engine.close()


@pytest.fixture
def process(engine: EngineProcess) -> psutil.Process:
    [process] = processes()
    return process


def processes() -> list[psutil.Process]:
    """Those of engines that belong to this one."""
    children = psutil.Process().children()
    return [one for one in children if "sa_ray.engines.process.host" in one.cmdline()]


def generate(engine: EngineProcess, *prompts: str, **changes: Any) -> list[Any]:
    batch = [wanted(prompt, **changes) for prompt in prompts]
    return engine.generate(batch, lambda row, fraction: None, lambda row: False)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether it has ended, and nothing but its number may be left."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def shared_memory(pid: int) -> int:
    """Count what a process holds of it: open files, and pieces of its memory."""
    files = [*Path(f"/proc/{pid}/fd").iterdir()]
    opened = sum("memfd:sa_ray" in str(one.readlink()) for one in files if one.is_symlink())
    return opened + Path(f"/proc/{pid}/maps").read_text().count("memfd:sa_ray")


def test_a_batch_is_to_the_bit_what_the_engine_makes_here() -> None:
    engine = EngineProcess("sa_ray.engines.procedural:ProceduralEngine", "small-sfx")
    here = ProceduralEngine("small-sfx")
    batch = [
        wanted(),
        wanted("a dog barks", duration=0.7, **FROM_AUDIO),
        wanted("a bell", duration=1.5),
        wanted("wind", duration=0.7, **FROM_AUDIO),
    ]
    source = tone(duration=0.7)
    sources = [None, source, None, source]

    made = clips(engine, *batch, sources=sources)
    again = clips(engine, *batch, sources=sources)

    expected = clips(here, *batch, sources=sources)
    for samples, repeated, same in zip(made, again, expected, strict=True):
        np.testing.assert_array_equal(samples, same)
        np.testing.assert_array_equal(repeated, same)
    engine.close()


def test_it_announces_itself_as_the_engine_does(engine: EngineProcess) -> None:
    assert (engine.name, engine.device, engine.sample_rate) == ("stable-audio-3", "cuda", 44_100)
    assert engine.calibration == CALIBRATION
    assert engine.fault is None


def test_its_slowdown_is_that_of_the_last_batch(engine: EngineProcess) -> None:
    assert engine.slowdown is None

    generate(engine, "slow out of graphs")

    assert engine.slowdown == "out of graphs"


def test_progress_ends_with_the_last_step_of_each_row(engine: EngineProcess) -> None:
    told: list[tuple[int, float]] = []

    engine.generate(
        [wanted()] * 3, lambda row, fraction: told.append((row, fraction)), lambda row: False
    )

    assert [told[-1 - row] for row in range(3)] == [(2, 1.0), (1, 1.0), (0, 1.0)]


def test_a_row_that_is_cancelled_meanwhile_is_dropped(engine: EngineProcess) -> None:
    begun: list[int] = []

    outcomes = engine.generate(
        [wanted("endless"), wanted(seed=3), wanted("endless")],
        lambda row, fraction: begun.append(row),
        lambda row: row in begun,
    )

    assert isinstance(outcomes[0], Cancelled)
    assert isinstance(outcomes[2], Cancelled)
    assert isinstance(outcomes[1], Generated)
    assert outcomes[1].samples.min() == outcomes[1].samples.max() == 3


def test_a_row_that_fails_costs_the_others_nothing(engine: EngineProcess) -> None:
    good, failed, other = generate(engine, "rain", "failing too long", "unpicklable")

    assert isinstance(good, Generated)
    assert isinstance(failed, GenerationError)
    assert (failed.message, failed.param) == ("too long", "duration")
    assert isinstance(other, GenerationError)
    assert other.message == "oneother"


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("KeyError", KeyError, "of KeyError"),
        ("Strange", RuntimeError, "StrangeError: of Strange"),
        ("lost", DeviceLostError, "of lost"),
    ],
)
def test_what_fails_a_batch_is_raised_here_and_logged_there(
    capfd: pytest.CaptureFixture[str], what: str, kind: Any, text: str
) -> None:
    engine = EngineProcess(LOADER, "small-sfx")  # not before its output is captured
    with pytest.raises(kind, match=text):
        generate(engine, "rain", f"raising {what}")

    logged = capfd.readouterr().err
    assert "a batch of 2 failed as a whole" in logged
    assert "tests/support/process_engine.py" in logged
    assert engine.fault is None
    assert isinstance(generate(engine, "rain")[0], Generated)
    engine.close()


def test_sources_cannot_be_written_to(engine: EngineProcess) -> None:
    source = tone()

    with pytest.raises(ValueError, match="read-only"):
        engine.generate(
            [wanted("writing")], lambda row, fraction: None, lambda row: False, [source]
        )

    np.testing.assert_array_equal(source, tone())


def test_samples_that_cannot_be_handed_over_fail_their_batch_alone(engine: EngineProcess) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        generate(engine, "samples unheard-of")

    (samples,) = clips(engine, wanted(seed=3))
    assert samples.min() == samples.max() == 3


def test_clips_are_left_alone_by_all_later_batches(engine: EngineProcess) -> None:
    kept = []
    for seed in range(6):
        first, *_ = clips(engine, wanted(seed=seed), wanted(seed=100), wanted(seed=200))
        kept.append(first[:, 10:20])

    assert [(part.min(), part.max()) for part in kept] == [(seed, seed) for seed in range(6)]


@pytest.mark.parametrize("prompt", ["rain", "raising KeyError", "failing for a reason"])
def test_memory_is_used_again_and_given_back(
    engine: EngineProcess, process: psutil.Process, prompt: str
) -> None:
    def run(times: int) -> list[Audio]:
        made = []
        for _ in range(times):
            with suppress(KeyError):
                batch, sources = [wanted(), wanted(prompt)], [tone(), None]
                outcomes = engine.generate(batch, lambda *_: None, lambda row: False, sources)
                made += [one.samples for one in outcomes if isinstance(one, Generated)]
        return made

    run(3)
    until(lambda: shared_memory(process.pid) == shared_memory(os.getpid()))
    few = shared_memory(os.getpid())

    many = run(10)
    held = shared_memory(os.getpid())
    del many
    run(3)

    assert (held > few) == (prompt != "raising KeyError")
    assert shared_memory(os.getpid()) <= few + 2 * KEPT
    until(lambda: shared_memory(process.pid) == shared_memory(os.getpid()))


def test_clips_of_the_greatest_length_go_through(engine: EngineProcess) -> None:
    batch = [wanted(duration=380, seed=seed, **FROM_AUDIO) for seed in range(4)]
    source = np.zeros((2, 380 * 44_100), np.float32)

    made = clips(engine, *batch, sources=[source, None, source, None])

    assert [samples.shape for samples in made] == [source.shape] * 4
    assert [samples[1, -1] for samples in made] == [0, 1, 2, 3]


def test_an_error_of_the_caller_ends_it(engine: EngineProcess) -> None:
    """Its answer to this batch must not be taken for that to the next."""

    def on_step(row: int, fraction: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.generate([wanted("endless")], on_step, lambda row: False)

    # The system has not ended it for want of memory, as SIGKILL alone would say.
    with pytest.raises(DeviceLostError, match="ZeroDivisionError"):
        generate(engine, "rain")
    assert processes() == []


def test_it_is_killed_with_a_batch_in_it(engine: EngineProcess, process: psutil.Process) -> None:
    def on_step(row: int, fraction: float) -> None:
        process.kill()

    with pytest.raises(DeviceLostError, match="the engine's process was ended by SIGKILL"):
        engine.generate([wanted("endless")], on_step, lambda row: False)

    assert engine.fault == "the engine's process was ended by SIGKILL"
    with pytest.raises(DeviceLostError):
        generate(engine, "rain")


def test_it_kills_itself(engine: EngineProcess) -> None:
    with pytest.raises(DeviceLostError, match="was ended by SIGKILL"):
        generate(engine, "killed")


def test_it_is_killed_while_it_waits(engine: EngineProcess, process: psutil.Process) -> None:
    process.terminate()

    until(lambda: engine.fault)

    assert engine.fault == "the engine's process was ended by SIGTERM"
    assert processes() == []  # no zombie either


def test_it_ends_when_it_is_closed_and_with_the_object(process: psutil.Process) -> None:
    other = EngineProcess(LOADER, "medium")
    [second] = [one for one in processes() if one != process]

    other.close()
    other.close()
    assert is_gone(second.pid)
    third = EngineProcess(LOADER, "medium")
    del third

    assert processes() == [process]


def test_it_is_closed_with_a_batch_in_it(engine: EngineProcess) -> None:
    begun = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        batch = thread.submit(
            engine.generate, [wanted("endless")], lambda *_: begun.set(), lambda row: False
        )
        assert begun.wait(DEADLINE_S)
        engine.close()

        with pytest.raises(DeviceLostError, match="closed"):
            batch.result(DEADLINE_S)
    assert processes() == []


def test_a_signal_without_a_name_is_told_by_its_number(
    engine: EngineProcess, process: psutil.Process
) -> None:
    process.send_signal(40)

    until(lambda: engine.fault)

    assert engine.fault == "the engine's process was ended by signal 40"


@pytest.mark.parametrize(
    ("then", "kind", "text"),
    [
        ("refuse", ConfigurationError, "medium is not there."),
        ("raise", RuntimeError, "StrangeError: cannot load"),
        ("be killed", UnavailableError, "medium is not loaded: the engine's process was ended by"),
    ],
)
def test_an_engine_that_does_not_load_says_why(then: str, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        EngineProcess(LOADER, "medium", then)

    assert getattr(caught.value, "param", None) == ("weights" if then == "refuse" else None)
    assert processes() == []


@pytest.mark.parametrize(
    ("loader", "kind"),
    [("sa_ray.nothing:load", ModuleNotFoundError), ("sa_ray.engines:nothing", AttributeError)],
)
def test_a_loader_that_is_not_there_is_named(loader: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="nothing"):
        EngineProcess(loader, "medium")


@pytest.mark.skipif(resolve_engine_name("auto") != "procedural", reason="its package is installed")
def test_a_replica_without_the_package_says_how_to_install_it() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be loaded here .* install the extra"):
        load_engine("stable-audio-3", "small-sfx")


@pytest.mark.parametrize("what", ["busy", "idle"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_with_the_process_that_has_it(what: str, number: signal.Signals) -> None:
    """Whatever ends that. Nor does it say anything of a Ctrl-C, which whole groups are sent."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.engine_owner", what],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as owner:
        assert owner.stdout
        assert owner.stderr
        pid = int(owner.stdout.readline())
        assert not is_gone(pid)

        os.killpg(owner.pid, number)

        assert owner.wait(DEADLINE_S) == (130 if number == signal.SIGINT else -number)
        until(lambda: is_gone(pid))
        assert owner.stderr.read() == ""


def test_it_is_ended_by_a_process_that_ends_by_itself() -> None:
    command = [sys.executable, "-m", "tests.support.engine_owner", "ending"]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )

    assert ended.stderr == ""
    assert not psutil.pid_exists(int(ended.stdout))
