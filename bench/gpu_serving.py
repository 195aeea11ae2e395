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
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop

from bench.loadtest.connection import Connections
from bench.loadtest.mixes import post
from bench.loadtest.recording import percentiles
from bench.process_usage import cpu_between, usage
from sa_ray.contracts import ResolvedRequest, VariantName
from sa_ray.engines.port import EngineOptions
from sa_ray.local import LocalService

WARM_UP_S: Final = 2.0
STEPS: Final = 8
SHORT_S: Final = 5.0
LONG_S: Final = 120.0
ALONE_BATCHES: Final = 30

PROXIES: Final = {"haproxy": "1", "python": "0"}
"""``RAY_SERVE_ENABLE_HA_PROXY``; the rest is as the service has it by default."""

SAME_BATCH_S: Final = 0.06
"""Answers of one batch end within this; of two, they seldom took the same 0.1 ms."""

_numbers = itertools.count(time.time_ns())


@dataclass
class Phase:
    """What one closed loop found. Milliseconds, but for ``clips_per_second`` and shares."""

    case: str
    clients: int
    clips_per_second: float
    p50: float
    p95: float
    of_engine: float | None
    rows: float
    """Clips in a batch, mean."""
    batch: float
    """What an engine call took, median."""
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
        _alone(_write, options.weights, variant, options.device, options.tiny)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, `{' '.join(sys.argv)}`\n")
    limits = {} if options.mixed else _limits(options)
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
    names = _thread_names()
    before, threads = usage(), _thread_seconds(names)
    with _gpu_watched() as gpu:
        load = uvloop.run(_loads(service.port, wanted, seconds))
    busy = {
        name: round(spent / load.seconds, 2)
        for name, spent in _differences(threads, _thread_seconds(names)).items()
        if spent > 0.02 * load.seconds
    }
    count = len(load.latencies)
    cpu = {
        part: round(1000 * spent / count, 2)
        for part, spent in cpu_between(before, usage()).items()
        if spent / count > 5e-5
    }
    latency, rate = percentiles(load.latencies), count / load.seconds
    timings = [_server_timing(head) for head in load.heads]
    batches = _batches([one["engine"] for one in timings], load.ended, rows)
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
    prompt = f"rain on a tin roof, distant thunder, close birds, take {next(_numbers)}"
    body = {"prompt": prompt, "model": model, "duration": duration}
    return post("/v1/audio/generations", json.dumps(body).encode())


def _server_timing(head: bytes) -> dict[str, float]:
    line = next(
        line for line in head.decode().splitlines() if line.lower().startswith("server-timing:")
    )
    parts = (part.strip().split(";dur=") for part in line.partition(":")[2].split(","))
    return {name: float(value) for name, value in parts}


def _batches(engine_ms: list[float], ended: list[float], most: int) -> list[float]:
    """Return what each batch took, told apart by that and by when its clips were there."""
    batches: list[float] = []
    last: dict[float, tuple[float, int]] = {}
    for end, took in sorted(zip(ended, engine_ms, strict=True)):
        before, clips = last.get(took, (0.0, 0))
        if end - before > SAME_BATCH_S or clips == most:
            batches.append(took)
            clips = 0
        last[took] = end, clips + 1
    return batches


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


@contextmanager
def _gpu_watched() -> Iterator[dict[str, float]]:
    """Yield what is filled at the end: means of utilisation (%), memory (MiB) and power (W)."""
    found: dict[str, float] = {}
    query = "--query-gpu=utilization.gpu,memory.used,power.draw"
    try:
        process = subprocess.Popen(
            ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "200"],
            stdout=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        yield found
        return
    yield found
    process.terminate()
    lines = [line.split(",") for line in process.communicate()[0].splitlines()]
    for place, name in enumerate(("utilisation", "MiB", "W")):
        with suppress(ValueError, IndexError, statistics.StatisticsError):
            found[name] = round(statistics.fmean(float(line[place]) for line in lines), 1)


def _thread_names() -> dict[tuple[int, int], str]:
    """Return the name of each Python thread of the variants and the ingress, by py-spy."""
    names = {}
    for process in psutil.Process().children(recursive=True):
        title = " ".join(process.cmdline())
        if "ray::ServeReplica:sa-ray:" not in title or "dispatcher" in title:
            continue
        part = title.split("sa-ray:")[1].split(":")[0].split("#")[0].strip()
        names.update({(process.pid, one.id): f"{part}, not Python" for one in process.threads()})
        dumped = subprocess.run(
            ["py-spy", "dump", "--nonblocking", "--json", "--pid", str(process.pid)],
            capture_output=True,
            check=False,
        )
        with suppress(ValueError):
            for thread in json.loads(dumped.stdout):
                number = thread["os_thread_id"] or 0
                names[process.pid, number] = f"{part}, {thread['thread_name']}"
    return names


def _thread_seconds(names: dict[tuple[int, int], str]) -> dict[tuple[int, int, str], float]:
    seconds = {}
    for pid in {pid for pid, _ in names}:
        with suppress(psutil.Error):
            for thread in psutil.Process(pid).threads():
                name = names.get((pid, thread.id), "new threads")
                seconds[pid, thread.id, name] = thread.user_time + thread.system_time
    return seconds


def _differences(
    before: dict[tuple[int, int, str], float], after: dict[tuple[int, int, str], float]
) -> dict[str, float]:
    spent: dict[str, float] = {}
    for key, seconds in after.items():
        name = f"{key[2]} of {key[0]}"
        spent[name] = spent.get(name, 0.0) + seconds - before.get(key, 0.0)
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def _alone(function: Any, *arguments: Any) -> Any:
    """Call ``function`` in a process of its own, which gives the GPU's memory back."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _write(weights: Path, variant: VariantName, device: str, tiny: bool) -> None:
    import torch

    from bench.random_weights import write_checkpoint

    if not (weights / variant).exists():
        write_checkpoint(weights / variant, variant, torch.device(device), tiny=tiny)


def _limits(options: argparse.Namespace) -> dict[int, float]:
    if options.limits and options.limits.exists():
        kept = json.loads(options.limits.read_text())
        return {int(rows): limit for rows, limit in kept.items()}
    limits = _alone(_engine_limits, options.weights, options.device, sorted(options.rows))
    if options.limits:
        options.limits.write_text(json.dumps(limits))
    return dict(limits)


def _engine_limits(weights: Path, device: str, rows: list[int]) -> dict[int, float]:
    """Return the clips a second of the engine in a process that does nothing else, by rows."""
    from sa_ray.engines.stable_audio.loading import load

    options = EngineOptions(
        device=device,
        weights_dir=weights,
        gpu_fraction=0.5,
        cpu_threads=1,
        max_batch_rows=max(rows),
    )
    engine = load("small-sfx", options)
    limits = {}
    for count in sorted({1, *rows}):
        took = []
        for turn in range(ALONE_BATCHES):
            batch = [_resolved() for _ in range(count)]
            begun = time.perf_counter()
            engine.generate(batch, lambda *_: None, lambda _: False)
            if turn > ALONE_BATCHES / 3:
                took.append(time.perf_counter() - begun)
        limits[count] = count / statistics.fmean(took)
        median = 1000 * statistics.median(took)
        print(
            f"engine alone, {count} rows: {limits[count]:.1f} clips/s, {median:.1f} ms a batch",
            flush=True,
        )
    return limits


def _resolved() -> ResolvedRequest:
    return ResolvedRequest(
        model="small-sfx",
        prompt=f"rain on a tin roof, distant thunder, close birds, take {next(_numbers)}",
        duration=SHORT_S,
        steps=STEPS,
        cfg_scale=1.0,
        seed=next(_numbers) % 1_000_000,
    )


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
