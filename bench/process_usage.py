"""CPU time and memory of this process and its descendants, by the part each plays."""

from collections import defaultdict
from dataclasses import dataclass

import psutil

PARTS = (
    ("raylet/raylet", "raylet"),
    ("gcs/gcs_server", "GCS"),
    ("ray::ProxyActor", "proxy"),
    ("ray::HAProxyManager", "proxy manager"),
    ("haproxy", "proxy"),
    ("ray::ServeReplica:sa-ray:ingress", "ingress"),
    ("ray::ServeReplica:sa-ray:dispatcher", "dispatcher"),
    ("ray::ServeReplica:sa-ray:", "variants"),
    ("sa_ray.engines.process.host", "engine"),
    ("ray::JobActor", "job actor"),
    ("ray::Uploader", "uploader"),
    ("ray::ServeController", "controller"),
    ("dashboard/agent.py", "Ray's agents"),
    ("runtime_env/agent/main.py", "Ray's agents"),
    ("ray/_private/log_monitor.py", "log monitor"),
    ("sa_ray.local", "driver"),
    ("postgres", "PostgreSQL"),
    ("redis-server", "Redis"),
    ("bench.baseline", "old server"),
)
"""Text in a command line, and the part that it means; the first match counts."""

OTHER = "other"
CLIENT = "client"


@dataclass
class Usage:
    cpu_seconds: float = 0.0
    unique_bytes: int = 0
    """Memory that would be freed if the processes ended (USS)."""


def usage(pid: int | None = None, *, memory: bool = False) -> dict[str, Usage]:
    """Return the usage of each part, summed over its processes.

    Those are this process, and the descendants of it or, if given, process ``pid`` with its own.
    Reading memory takes some milliseconds a process.
    """
    me = psutil.Process()
    others = [psutil.Process(pid)] if pid else []
    parts: defaultdict[str, Usage] = defaultdict(Usage)
    for process in (me, *others, *(others or [me])[0].children(recursive=True)):
        try:
            part = CLIENT if process == me else _part(" ".join(process.cmdline()))
            times = process.cpu_times()
            parts[part].cpu_seconds += times.user + times.system
            if memory:
                parts[part].unique_bytes += process.memory_full_info().uss
        except psutil.Error:
            continue  # it has ended
    return dict(parts)


def cpu_between(before: dict[str, Usage], after: dict[str, Usage]) -> dict[str, float]:
    """Return seconds of CPU by part, the largest first."""
    spent = {
        part: usage.cpu_seconds - before.get(part, Usage()).cpu_seconds
        for part, usage in after.items()
    }
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def _part(command: str) -> str:
    return next((part for mark, part in PARTS if mark in command), OTHER)
