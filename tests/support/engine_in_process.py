"""A variant whose engine has a process of its own, as Stable Audio has, to be deployed instead."""

from typing import Any

import psutil

from sa_ray.contracts import EngineName, VariantName
from sa_ray.engines import Engine, EngineOptions
from sa_ray.engines.process import EngineProcess
from sa_ray.serving.variant import deployment


class EngineInProcess(deployment.Variant):
    """The procedural engine in a process of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        deployment.load_engine = _load  # in a replica, for which alone that is
        super().__init__(*args, **kwargs)


def engine_processes(variant: VariantName) -> list[psutil.Process]:
    """Return the processes of engines of ``variant`` on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "sa_ray.engines.process.host" in command and command[-1] == variant:
            found.append(process)
    return found


def _load(name: EngineName, variant: VariantName, options: EngineOptions) -> Engine:
    return EngineProcess("sa_ray.engines.procedural:ProceduralEngine", variant)
