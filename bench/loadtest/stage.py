"""Where scenarios take place, and the order in which they do."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import psutil

from bench.loadtest.loops import Target
from bench.loadtest.recording import Phase
from bench.loadtest.services import ENGINES, is_simulated, old_server, service

WARM_UP_S = 3.0
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Place:
    """A service to measure; ``settings``: keywords of ``bench.loadtest.services.service``."""

    engine: str
    replicas: Mapping[str, int]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """A row of the table of goals. ``met``: None where there is nothing to compare."""

    what: str
    service: str
    old_server: str
    goal: str
    met: bool | None


class Scenario:
    """One thing to measure. Phases are kept by name, those of the old server with ``OLD`` first."""

    OLD = "old server"

    name: str
    place: Place
    old: str | None = None
    """Engine of the old server; None: it is not measured."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.phases: dict[str, Phase] = {}
        self.proxy = ""

    def load_old(self, target: Target) -> None:
        """Measure the old server."""

    def load(self, target: Target) -> None:
        """Measure the service."""
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """Return what came out."""
        raise NotImplementedError

    @property
    def simulated(self) -> bool:
        return is_simulated(self.place.engine)

    def summary(self) -> dict[str, Any]:
        """Return it as the results in JSON have it."""
        return {
            "engine": ENGINES[self.place.engine],
            "engine_of_old_server": ENGINES[self.old] if self.old else None,
            "simulated": self.simulated,
            "proxy": self.proxy,
            "replicas": dict(self.place.replicas),
            "rows": [vars(row) for row in self.rows()],
            "phases": {name: phase.summary() for name, phase in self.phases.items()},
        }


def run(scenarios: Iterable[Scenario]) -> Iterator[Scenario]:
    """Run ``scenarios`` and yield each when it is done.

    Those that follow each other at the same place share the service, and the old servers run before
    it starts: even idle, a service takes CPU.
    """
    for place, grouped in groupby(scenarios, key=lambda one: one.place):
        group = list(grouped)
        for engine in dict.fromkeys(one.old for one in group if one.old):
            with old_server(engine) as port:
                for one in group:
                    if one.old == engine:
                        one.load_old(Target(port))
        with service(place.engine, place.replicas, **place.settings) as running:
            for one in group:
                one.proxy = _proxy()
                one.load(Target(running.port))
                yield one


def _proxy() -> str:
    names = {process.name() for process in psutil.Process().children(recursive=True)}
    return "HAProxy" if "haproxy" in names else "Serve's Python proxy"
