"""An engine in the process of its replica, and in one of its own: what each makes of a GPU.

    sudo chrt -r 1 .venv/bin/python -m bench.engine_process [--seconds 6] [--turns 3]

*Simulated*: the engine is ``bench.loadtest.calling_engine``, which sleeps where an H100 works. What
is around it in a replica is real (batcher, check and encoding of clips as WAV), but for Ray and
Serve, in whose place two threads take the interpreter lock for as long. HTTP, the ingress and
clients are left out: at the rate of an H100, two cores would be full of them.

Under ``chrt`` nothing else on the machine interferes, and the engine's thread goes before all
others, as on a core of its own. Without, it is measured as well how two cores are shared.
"""

import argparse
import asyncio
import itertools
import os
import platform
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import psutil
import uvloop

from bench.loadtest.calling_engine import CallingEngine, load
from sa_ray.contracts import ResolvedRequest
from sa_ray.engines import Engine, flaw_of
from sa_ray.engines.process import EngineProcess
from sa_ray.scheduling.costs import cost_of
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.replica_load import Workload
from sa_ray.serving.variant.batcher import Batcher, Rendered
from sa_ray.serving.variant.finishing import Finishing
from sa_ray.serving.variant.second_attempt import Checked

ROWS: Final = 8
CLIENTS: Final = 64
LOADER: Final = f"{load.__module__}:{load.__name__}"

LOOP_S: Final = 1.0e-3
CALLS_S: Final = 1.2e-3
"""Python of Ray and Serve for each clip, in the replica's event loop, and in the threads that call
it and send its answer: ``bench/results/serving.md``, "What a clip costs, by process"."""

PLACES: Final[dict[str, Callable[[], Engine]]] = {
    "in the replica": lambda: CallingEngine("small-sfx"),
    "in a process of its own": lambda: EngineProcess(LOADER, "small-sfx"),
}

_numbers = itertools.count()


@dataclass
class Turn:
    """Figures of one closed loop."""

    clips: int
    seconds: float
    batches_ms: list[float]
    cpu_ms: float
    """Of each clip, all processes."""
    engine_cpu_ms: float
    """Of that, in the engine's own process."""

    @property
    def rate(self) -> float:
        return self.clips / self.seconds


def main() -> None:
    options = _options()
    turns: dict[str, list[Turn]] = {place: [] for place in PLACES}
    alone = []
    for _ in range(options.turns):  # by turns, so that what else the machine does meets all
        with ThreadPoolExecutor(1) as thread:  # which the engine changes
            alone.append(thread.submit(_alone).result())
        for place, loaded in PLACES.items():
            turns[place].append(uvloop.run(_turn(loaded(), options.seconds)))
    batch = statistics.median(alone)
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"{'real-time scheduling' if os.sched_getscheduler(0) else 'ordinary scheduling'}, "
        f"`python -m bench.engine_process {' '.join(sys.argv[1:])}`: *simulated*\n\n"
        f"The engine alone: {1000 * batch:.1f} ms for {ROWS} rows, {ROWS / batch:.0f} clips/s.\n\n"
        "| engine | clips/s | of the engine alone | ms a batch | CPU ms a clip | of that, its own "
        "process |\n" + "| --- " * 6 + "|"
    )
    for place, taken in turns.items():
        print(_row(place, taken, ROWS / batch), flush=True)


def _alone() -> float:
    """Return the seconds of a batch with nothing beside it."""
    engine, took = CallingEngine("small-sfx"), []
    for _ in range(20):
        begun = time.perf_counter()
        engine.generate([_request() for _ in range(ROWS)], lambda *_: None, lambda _: False)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


async def _turn(engine: Engine, seconds: float) -> Turn:
    """Have ``CLIENTS`` clients ask a replica for one clip after the other."""
    batches: list[float] = []
    cost = (engine.calibration and engine.calibration.cost) or cost_of(
        "small-sfx", engine.name, gpu=True
    )
    batcher = Batcher(
        engine,
        Workload(Estimator(cost, ROWS, 1e3), target_wait=5),
        spent=lambda _, took: batches.append(1000 * took),
    )
    finishing = Finishing(engine, None)
    encoders, checker = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
    calls: queue.SimpleQueue[float] = queue.SimpleQueue()
    threading.Thread(target=_busy, args=(calls,), daemon=True).start()
    loop = asyncio.get_running_loop()
    made = 0

    async def clip() -> None:
        nonlocal made
        request = _request()
        rendered: Rendered = await batcher.render(request, lambda _: None)
        await loop.run_in_executor(checker, flaw_of, rendered.samples)
        checked = Checked(rendered, request.seed, None)
        await loop.run_in_executor(encoders, finishing.finish, request, checked, None)
        _spin(LOOP_S)
        calls.put(CALLS_S)
        made += 1

    async def client(until: float) -> None:
        while time.perf_counter() < until:
            await clip()

    async def clients(for_s: float) -> None:
        until = time.perf_counter() + for_s
        await asyncio.gather(*(client(until) for _ in range(CLIENTS)))

    await clients(1.0)
    batches.clear()
    made, before, begun = 0, _cpu(), time.perf_counter()
    await clients(seconds)
    took, after = time.perf_counter() - begun, _cpu()
    calls.put(0.0)
    engine.close()
    for threads in (encoders, checker):
        threads.shutdown()
    ours, its = (1000 * (now - then) / made for now, then in zip(after, before, strict=True))
    return Turn(made, took, batches, ours + its, its)


def _busy(calls: "queue.SimpleQueue[float]") -> None:
    while seconds := calls.get():
        _spin(seconds)


def _spin(seconds: float) -> None:
    """Run Python for so long, however long that takes."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def _cpu() -> tuple[float, float]:
    """Return the seconds of CPU of this process, and of its children."""
    me = psutil.Process()
    spent = [one.cpu_times() for one in (me, *me.children())]
    mine, *others = [one.user + one.system for one in spent]
    return mine, sum(others)


def _request() -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx",
        prompt=f"rain, take {next(_numbers)}",
        duration=5.0,
        steps=8,
        cfg_scale=1.0,
        seed=0,
    )


def _row(place: str, turns: list[Turn], most: float) -> str:
    rates = [turn.rate for turn in turns]
    rate = statistics.median(rates)
    batch = statistics.median(took for turn in turns for took in turn.batches_ms)
    cpu = statistics.median(turn.cpu_ms for turn in turns)
    own = statistics.median(turn.engine_cpu_ms for turn in turns)
    spread = f"{rate:.0f} ({min(rates):.0f} to {max(rates):.0f})"
    return f"| {place} | {spread} | {rate / most:.0%} | {batch:.1f} | {cpu:.2f} | {own:.2f} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each loop")
    parser.add_argument("--turns", type=int, default=3, help="of each of the two, alternating")
    return parser.parse_args()


if __name__ == "__main__":
    main()
