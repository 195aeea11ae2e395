"""Scenarios with an engine that costs nothing: what serving costs by itself."""

import itertools
import json
from dataclasses import replace
from typing import ClassVar

from bench.loadtest.loops import Target, closed, repeated
from bench.loadtest.mixes import Mix, get, job, sync
from bench.loadtest.recording import Phase
from bench.loadtest.stage import NOT_MEASURED, WARM_UP_S, Place, Row, Scenario

ZERO = Place(
    "zero",
    {"small-sfx": 1, "small-music": 1},
    {"variants": {"small-music": {"max_batch_rows": 1}}, "max_queued_jobs": 1_000_000},
)
QUEUED = job("small-music", 30.0, steps=50)
"""Of which a replica makes one in ``ASLEEP_S``, so that the others wait in the durable queue."""


STORES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Redis"}


class SyncCost(Scenario):
    """CPU and rate of clips of 5 s that 8 clients wait for."""

    name, place, old = "sync-cost", ZERO, "zero"
    CLIENTS = 8

    def load_old(self, target: Target) -> None:
        self._load(target, self.OLD)

    def load(self, target: Target) -> None:
        self._load(target, "service")

    def _load(self, target: Target, name: str) -> None:
        mix = Mix([sync()])
        closed(target, mix, clients=self.CLIENTS, seconds=WARM_UP_S)
        self.phases[name] = closed(target, mix, clients=self.CLIENTS, seconds=self.seconds)

    def rows(self) -> list[Row]:
        ours, old = self.phases["service"], self.phases[self.OLD]
        cost, old_cost = ours.cpu_ms_served(), old.cpu_ms_served()
        rate, old_rate = ours.per_second, old.per_second
        return [
            Row(
                "CPU a sync 5 s request, all processes",
                f"{cost:.1f} ms",
                f"{old_cost:.1f} ms",
                "12 ms, then under the old server's",
                cost <= 12,
            ),
            Row(
                "sync 5 s, 8 clients, zero-cost engine",
                f"{rate:.0f}/s",
                f"{old_rate:.0f}/s",
                "105/s and more",
                rate >= 105,
            ),
        ]


class Alone(Scenario):
    """Latency of a clip for one client, beyond what the engine takes."""

    name, place, old = "alone", ZERO, "zero"
    LENGTHS: ClassVar = {5.0: 12.0, 120.0: 100.0}
    """Seconds of audio, and the goal in milliseconds."""

    def load_old(self, target: Target) -> None:
        self._load(target, self.OLD)

    def load(self, target: Target) -> None:
        self._load(target, "service")

    def _load(self, target: Target, name: str) -> None:
        for length in self.LENGTHS:
            mix = Mix([sync(duration=length)])
            closed(target, mix, clients=1, seconds=WARM_UP_S / 2)
            phase = closed(target, mix, clients=1, seconds=self.seconds)
            self.phases[f"{name}, {length:g} s"] = phase

    def rows(self) -> list[Row]:
        ours = [self.phases[f"service, {length:g} s"].latency_ms("p50") for length in self.LENGTHS]
        old = [
            self.phases[f"{self.OLD}, {length:g} s"].latency_ms("p50") for length in self.LENGTHS
        ]
        goals = self.LENGTHS.values()
        return [
            Row(
                "p50 over the engine, alone: 5 s / 120 s clip",
                f"{ours[0]:.1f} / {ours[1]:.0f} ms",
                f"{old[0]:.1f} / {old[1]:.0f} ms",
                "12 / 100 ms",
                all(one <= goal for one, goal in zip(ours, goals, strict=True)),
            )
        ]


class _Jobs(Scenario):
    """Something that 32 clients do with jobs in one of ``STORES``; each has a service of its own.

    The old server has no store, and is measured beside the first of them alone.
    """

    KIND: str
    CLIENTS = 32

    def __init__(self, seconds: float, store: str = "sqlite") -> None:
        super().__init__(seconds)
        self.store = STORES[store]
        first = store == "sqlite"
        self.name = self.KIND if first else f"{self.KIND}-{store}"
        self.place = ZERO if first else replace(ZERO, settings={**ZERO.settings, "store": store})
        self.old = "zero" if first else None

    def load_old(self, target: Target) -> None:
        self.phases[self.OLD] = self._loaded(target)

    def load(self, target: Target) -> None:
        self.phases["service"] = self._loaded(target)

    def _loaded(self, target: Target) -> Phase:
        raise NotImplementedError

    def _row(self, what: str, old: str, goal: int) -> list[Row]:
        rate = self.phases["service"].per_second
        before = self.phases.get(self.OLD)
        old_rate = f"{before.per_second:.0f}/s ({old})" if before else NOT_MEASURED
        what = f"{what}, {self.store}, {self.CLIENTS} clients"
        return [Row(what, f"{rate:.0f}/s", old_rate, f"{goal}/s", rate >= goal)]


class Reads(_Jobs):
    """Reads of the status of up to a thousand jobs that wait in the durable queue."""

    KIND = "reads"

    def _loaded(self, target: Target) -> Phase:
        _, bodies = repeated(target, QUEUED.request, clients=8, seconds=WARM_UP_S / 2)
        ids = [json.loads(body)["id"] for body in bodies][-1000:]
        requests = itertools.cycle([get(f"/jobs/{one}") for one in ids])
        for seconds in (WARM_UP_S, self.seconds):
            phase, _ = repeated(
                target, lambda: next(requests), clients=self.CLIENTS, seconds=seconds
            )
        return phase

    def rows(self) -> list[Row]:
        return self._row("`GET /jobs/{id}` reads", "in memory", 1500)


class Submits(_Jobs):
    """Jobs that are durable before their clients hear of them."""

    KIND = "submits"

    def _loaded(self, target: Target) -> Phase:
        for seconds in (WARM_UP_S, self.seconds):
            phase, _ = repeated(target, QUEUED.request, clients=self.CLIENTS, seconds=seconds)
        return phase

    def rows(self) -> list[Row]:
        return self._row("durable submits", "not durable", 600)
