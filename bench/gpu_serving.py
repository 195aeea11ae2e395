"""Serve clips over HTTP by the real engine on a GPU, beside what its engine makes alone.

Weights are random at the real size, so speed is true and no gated file is needed. Each
configuration (proxy, rows in a batch, ingress replicas) is a service of its own; closed loops of
clients load it, each request a prompt that was never seen:

    python -m bench.gpu_serving --weights /tmp/weights
    python -m bench.gpu_serving --weights /tmp/weights --mixed
    python -m bench.gpu_serving --weights /tmp/tiny --tiny --device cpu   # only check that it runs

``--weights`` is made if it is missing: some 3 GB for each small variant, 10 GB for medium.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.gpu_engine_alone import SHORT_S, alone, limits_of, new_prompt, write_weights
from bench.gpu_watching import (
    batches_of,
    differences,
    gpu_watched,
    server_timing,
    thread_names,
    thread_seconds,
)
from bench.loadtest.connection import Connections
from bench.loadtest.mixes import post
from bench.loadtest.recording import percentiles
from bench.process_usage import cpu_between, usage
from sa_ray.contracts import VariantName
from sa_ray.local import LocalService

WARM_UP_S: Final = 2.0
LONG_S: Final = 120.0

PROXIES: Final = {"haproxy": "1", "python": "0"}
"""``RAY_SERVE_ENABLE_HA_PROXY``; the rest is as the service has it by default."""


@dataclass
class Phase:
    """Figures of one closed loop. Milliseconds, but for ``clips_per_second`` and shares."""

    case: str
    clients: int
    clips_per_second: float
    p50: float
    p95: float
    of_engine: float | None
    rows: float
    """Clips in a batch, mean."""
    batch: float
    """Of an engine call, median."""
    queue: float
    encode: float
    engine_busy: float
    """Share of the time in which the engine had a batch."""
    gpu: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Of each clip, by part."""
    threads: dict[str, float] = field(default_factory=dict)
    """Share of a core that each busy thread of the variant and the ingress had."""


@dataclass
class Load:
    """Answers of one closed loop: headers, and seconds."""

    seconds: float = 0.0
    heads: list[bytes] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


def main() -> None:
    options = _options()
    variants: list[VariantName] = ["small-sfx", "medium"] if options.mixed else ["small-sfx"]
    for variant in variants:
        alone(write_weights, options.weights, variant, options.device, options.tiny)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, `{' '.join(sys.argv)}`\n")
    limits = {} if options.mixed else limits_of(options)
    print(_HEAD, flush=True)
    for proxy, rows, ingress in itertools.product(options.proxy, options.rows, options.ingress):
        with _service(options, variants, proxy, rows, ingress) as service:
            case = f"{proxy}, {rows} rows, {ingress} ingress"
            run = _mixed if options.mixed else _uniform
            for phase in run(service, case, options, rows, limits.get(rows)):
                _show(phase, options.json)


def _uniform(
    service: LocalService,
    case: str,
    options: argparse.Namespace,
    rows: int,
    limit: float | None,
) -> Iterator[Phase]:
    for clients in options.clients:
        yield _phase(service, case, {("small-sfx", SHORT_S): clients}, options, rows, limit)


def _mixed(
    service: LocalService,
    case: str,
    options: argparse.Namespace,
    rows: int,
    _limit: float | None,
) -> Iterator[Phase]:
    """Short clips alone, then beside long ones of another model on the same GPU."""
    short, long = ("small-sfx", SHORT_S), ("medium", LONG_S if not options.tiny else SHORT_S)
    for clients in options.clients:
        yield _phase(service, case, {short: clients}, options, rows)
        for others in (1, 4):
            beside = f"{case}, beside {others} of medium {long[1]:g} s"
            yield _phase(service, beside, {short: clients, long: others}, options, rows)


def _phase(
    service: LocalService,
    case: str,
    wanted: dict[tuple[str, float], int],
    options: argparse.Namespace,
    rows: int,
    limit: float | None = None,
) -> Phase:
    """Load the service by so many clients for each model and duration; the first is measured."""
    seconds = options.seconds
    uvloop.run(_loads(service.port, wanted, WARM_UP_S))
    names = thread_names()
    before, threads = usage(), thread_seconds(names)
    with gpu_watched() as gpu:
        load = uvloop.run(_loads(service.port, wanted, seconds))
    busy = {
        name: round(spent / load.seconds, 2)
        for name, spent in differences(threads, thread_seconds(names)).items()
        if spent > 0.02 * load.seconds
    }
    count = len(load.latencies)
    cpu = {
        part: round(1000 * spent / count, 2)
        for part, spent in cpu_between(before, usage()).items()
        if spent / count > 5e-5
    }
    latency, rate = percentiles(load.latencies), count / load.seconds
    timings = [server_timing(head) for head in load.heads]
    batches = batches_of([one["engine"] for one in timings], load.ended, rows)
    return Phase(
        case=case,
        clients=next(iter(wanted.values())),
        clips_per_second=round(rate, 1),
        p50=latency["p50"],
        p95=latency["p95"],
        of_engine=limit and round(rate / limit, 3),
        rows=round(count / len(batches), 2),
        batch=round(statistics.median(batches), 1),
        queue=round(statistics.median(one["queue"] for one in timings), 1),
        encode=round(statistics.median(one["encode"] for one in timings), 1),
        engine_busy=round(sum(batches) / 1000 / load.seconds, 2),
        gpu=gpu,
        cpu=cpu,
        threads=busy,
    )


async def _loads(port: int, wanted: dict[tuple[str, float], int], seconds: float) -> Load:
    """Run a closed loop of each kind at once; return the first kind's.

    Raises ``RuntimeError`` at a refusal or a failure: they must not count as served.
    """
    connections, load, started = Connections("127.0.0.1", port), Load(), time.perf_counter()

    async def client(model: str, duration: float, counts: bool) -> None:
        while (sent := time.perf_counter()) - started < seconds:
            answer = await connections.exchange(_request(model, duration))
            if answer.status != 200:
                raise RuntimeError(f"{answer.head.decode()}{answer.body.decode()}")
            if counts:
                load.heads.append(answer.head)
                load.ended.append(time.perf_counter())
                load.latencies.append(load.ended[-1] - sent)

    async with asyncio.TaskGroup() as group:
        for place, ((model, duration), clients) in enumerate(wanted.items()):
            for _ in range(clients):
                group.create_task(client(model, duration, place == 0))
    connections.close()
    load.seconds = max(load.ended) - started
    return load


def _request(model: str, duration: float) -> bytes:
    body = {"prompt": new_prompt(), "model": model, "duration": duration}
    return post("/v1/audio/generations", json.dumps(body).encode())


@contextmanager
def _service(
    options: argparse.Namespace, variants: list[VariantName], proxy: str, rows: int, ingress: int
) -> Iterator[LocalService]:
    os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = PROXIES[proxy]
    override: dict[str, Any] = {"max_replicas": 1, "gpu": 0.5, "max_batch_rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        args = {
            "engine": "stable-audio-3",
            "allow_anonymous": True,
            "device": options.device,
            "weights_dir": str(options.weights.absolute()),
            "preload_models": ",".join(variants),
            "ingress_replicas": ingress,
            "variants": {"small-sfx": override, "medium": {"max_replicas": 1, "gpu": 0.5}},
            "output_dir": f"{folder}/output",
            "jobs_url": f"sqlite:///{folder}/jobs.db",
        }
        begun = time.perf_counter()
        with LocalService(Path(folder), args) as service:
            service.wait_until_ready()
            print(f"<!-- ready within {time.perf_counter() - begun:.0f} s -->", flush=True)
            yield service


_HEAD: Final = (
    "\n| case | clients | clips/s | of the engine | p50, p95 ms | rows | batch ms | engine busy "
    "| queue, encode ms | GPU | CPU ms a clip | threads, cores |\n" + "| --- " * 12 + "|"
)


def _show(phase: Phase, file: Path | None) -> None:
    def listed(numbers: dict[str, float]) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in numbers.items())

    share = f"{phase.of_engine:.0%}" if phase.of_engine else ""
    print(
        f"| {phase.case} | {phase.clients} | {phase.clips_per_second} | {share} "
        f"| {phase.p50}, {phase.p95} | {phase.rows} | {phase.batch} | {phase.engine_busy} "
        f"| {phase.queue}, {phase.encode} | {listed(phase.gpu)} | {sum(phase.cpu.values()):.1f}: "
        f"{listed(phase.cpu)} | {listed(phase.threads)} |",
        flush=True,
    )
    if file:
        with file.open("a") as out:
            print(json.dumps(asdict(phase)), file=out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="a model of a few MB, to try this out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--proxy", nargs="*", default=["haproxy"], choices=PROXIES)
    parser.add_argument("--rows", nargs="+", type=int, default=[8], help="in a batch at most")
    parser.add_argument("--ingress", nargs="+", type=int, default=[1], help="replicas")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each loop")
    parser.add_argument(
        "--mixed", action="store_true", help="short clips beside medium's long ones"
    )
    parser.add_argument(
        "--limits", type=Path, help="what the engine alone makes; measured and written if missing"
    )
    parser.add_argument("--json", type=Path, help="append each row to this file, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
