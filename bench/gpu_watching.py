"""Watch a GPU, the threads of a replica, and the batches of its engine while it serves."""

import json
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

SAME_BATCH_S: Final = 0.06
"""Answers of one batch end within this; of two, they seldom took the same 0.1 ms."""


def server_timing(head: bytes) -> dict[str, float]:
    """Return the milliseconds that an answer names in ``Server-Timing``."""
    line = next(
        line for line in head.decode().splitlines() if line.lower().startswith("server-timing:")
    )
    parts = (part.strip().split(";dur=") for part in line.partition(":")[2].split(","))
    return {name: float(value) for name, value in parts}


def batches_of(engine_ms: list[float], ended: list[float], most: int) -> list[float]:
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
def gpu_watched() -> Iterator[dict[str, float]]:
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


def thread_names() -> dict[tuple[int, int], str]:
    """Return the name of each Python thread of variants, engines and the ingress, by py-spy."""
    names = {}
    for process in psutil.Process().children(recursive=True):
        title = " ".join(process.cmdline())
        if "sa_ray.engines.process.host" in title:
            part = f"engine of {title.split()[-1]}"
        elif "ray::ServeReplica:sa-ray:" in title and "dispatcher" not in title:
            part = title.split("sa-ray:")[1].split(":")[0].split("#")[0].strip()
        else:
            continue
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


def thread_seconds(names: dict[tuple[int, int], str]) -> dict[tuple[int, int, str], float]:
    """Return the seconds of CPU of each thread of those processes."""
    seconds = {}
    for pid in {pid for pid, _ in names}:
        with suppress(psutil.Error):
            for thread in psutil.Process(pid).threads():
                name = names.get((pid, thread.id), "new threads")
                seconds[pid, thread.id, name] = thread.user_time + thread.system_time
    return seconds


def differences(
    before: dict[tuple[int, int, str], float], after: dict[tuple[int, int, str], float]
) -> dict[str, float]:
    """Return the seconds between two readings by thread, the most first."""
    spent: dict[str, float] = {}
    for key, seconds in after.items():
        name = f"{key[2]} of {key[0]}"
        spent[name] = spent.get(name, 0.0) + seconds - before.get(key, 0.0)
    return dict(sorted(spent.items(), key=lambda item: -item[1]))
