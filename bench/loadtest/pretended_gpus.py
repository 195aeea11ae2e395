"""Scenarios with engines that sleep like a GPU: how well the service keeps it busy."""

import numpy as np

from bench.loadtest.arrivals import Arrivals, poisson
from bench.loadtest.engine import h100
from bench.loadtest.loops import Target, closed, open_loop
from bench.loadtest.mixes import Mix, job, sync
from bench.loadtest.recording import percentiles
from bench.loadtest.stage import NOT_MEASURED, WARM_UP_S, Place, Row, Scenario
from sa_ray.contracts import ResolvedRequest, VariantName


def limit(model: VariantName, duration: float, rows: int, steps: int = 8) -> float:
    """Return the most clips a second that one pretended GPU makes in batches of ``rows``."""
    clip = ResolvedRequest(
        model=model, prompt="rain", duration=duration, steps=steps, cfg_scale=1.0, seed=0
    )
    return rows / h100([clip] * rows)


class OneGpu(Scenario):
    """Use of a GPU that makes 8 clips of 5 s in 75 ms, behind one ingress."""

    name, old = "one-gpu", "eager"
    place = Place("gpu", {"small-sfx": 1}, {"variants": {"small-sfx": {"max_batch_rows": 8}}})
    CLIENTS = 64
    GOAL = 0.9

    def load_old(self, target: Target) -> None:
        self._load(target, self.OLD)

    def load(self, target: Target) -> None:
        closed(target, Mix([sync()]), clients=self.CLIENTS, seconds=WARM_UP_S)
        self._load(target, "service")

    def _load(self, target: Target, name: str) -> None:
        mix = Mix([sync()])
        self.phases[name] = closed(target, mix, clients=self.CLIENTS, seconds=self.seconds)

    def rows(self) -> list[Row]:
        most = limit("small-sfx", 5, 8)
        rate = self.phases["service"].per_second
        return [
            Row(
                "one simulated H100 (75 ms for 8 rows), 64 users",
                f"{rate:.1f}/s, {rate / most:.0%} of the engine's {most:.0f}",
                f"{self.phases[self.OLD].per_second:.1f}/s",
                "90 % of the engine's limit with one ingress",
                rate >= self.GOAL * most,
            )
        ]


class Scaling(Scenario):
    """Clips of ``medium`` of 50 steps, so slow that two cores can serve eight GPUs."""

    STEPS = 50
    CLIENTS_EACH = 12
    """For each GPU: a batch in it, one that waits, and one on its way."""
    GOAL = 0.95

    def __init__(self, seconds: float, gpus: int) -> None:
        super().__init__(seconds)
        self.gpus = gpus
        self.name = f"scaling-{gpus}"
        self.place = Place("gpu", {"medium": gpus})

    def load(self, target: Target) -> None:
        mix, clients = Mix([sync("medium", steps=self.STEPS)]), self.CLIENTS_EACH * self.gpus
        closed(target, mix, clients=clients, seconds=WARM_UP_S)
        self.phases["service"] = closed(target, mix, clients=clients, seconds=self.seconds)

    @property
    def rate(self) -> float:
        """Clips a second."""
        return self.phases["service"].per_second

    def rows(self) -> list[Row]:
        phase = self.phases["service"]
        most = self.gpus * limit("medium", 5, 4, self.STEPS)
        cores = sum(phase.cpu.values()) / phase.seconds
        return [
            Row(
                f"{self.gpus} simulated GPU{'s' * (self.gpus > 1)}, medium, 50 steps",
                f"{self.rate:.1f}/s, {self.rate / most:.2f} of what they can; {cores:.1f} cores",
                NOT_MEASURED,
                "0.95 efficiency, until the cores are full",
                self.rate >= self.GOAL * most,
            )
        ]


class Mixed(Scenario):
    """Latency of short clips of ``medium`` while one GPU after the other makes a long one."""

    RATE = 5.0
    LONG_STEPS = 50
    GOAL = 1.5

    def __init__(self, seconds: float, gpus: int = 4) -> None:
        super().__init__(seconds)
        self.gpus = gpus
        self.name = f"mixed-{gpus}"
        self.place = Place("gpu", {"medium": gpus})

    def load(self, target: Target) -> None:
        short = Mix([sync("medium", 2.0)])
        long = Mix([job("medium", 380.0, steps=self.LONG_STEPS)])
        seconds = 3 * self.seconds
        open_loop(target, short, poisson(self.RATE, WARM_UP_S))
        self.phases["alone"] = open_loop(target, short, poisson(self.RATE, seconds))
        arrivals = poisson(self.RATE, seconds)
        self.phases["beside long ones"] = open_loop(target, short, arrivals, beside=long)

    def rows(self) -> list[Row]:
        alone, beside = (
            self.phases["alone"].latency_ms("p95"),
            self.phases["beside long ones"].latency_ms("p95"),
        )
        return [
            Row(
                f"mixed load: p95 of short clips beside long `medium` ones, {self.gpus} simulated "
                "GPUs",
                f"{beside:.0f} ms; alone {alone:.0f} ms: {beside / alone:.2f} times",
                NOT_MEASURED,
                "within 1.5 times alone",
                beside <= self.GOAL * alone,
            )
        ]


class Overload(Scenario):
    """Three times as many requests as a GPU can serve, between calm times."""

    name, place = "overload", Place("gpu", {"medium": 1})
    TIMES = 3.0
    CALM = 0.5
    AFTER_S = 20.0

    def load(self, target: Target) -> None:
        rate = limit("medium", 5, 4)
        self.calm_s, self.overload_s = self.seconds, 12 * self.seconds
        parts = (
            (self.CALM, self.calm_s),
            (self.TIMES, self.overload_s),
            (self.CALM, self.AFTER_S),
        )
        times, start = [], 0.0
        for seed, (share, seconds) in enumerate(parts):
            times.append(start + poisson(share * rate, seconds, seed).times)
            start += seconds
        mix = Mix([sync("medium")])
        open_loop(target, mix, poisson(self.CALM * rate, WARM_UP_S))
        self.phases["service"] = open_loop(target, mix, Arrivals(np.concatenate(times)))

    def rows(self) -> list[Row]:
        good, refusal_ms, recovery = self._found()
        whole = f"overload at {self.TIMES:g} times the capacity of a simulated GPU: "
        return [
            Row(whole + "goodput", f"{good:.0%}", NOT_MEASURED, "90 %", good >= 0.9),
            Row(
                whole + "p95 of refusals",
                f"{refusal_ms:.0f} ms",
                NOT_MEASURED,
                "under 50 ms",
                refusal_ms < 50,
            ),
            Row(
                whole + "recovery",
                f"{recovery:.1f} s",
                NOT_MEASURED,
                "within 10 s",
                recovery <= 10,
            ),
        ]

    def _found(self) -> tuple[float, float, float]:
        """Return goodput relative to the capacity, p95 of refusals in ms, and the seconds from the
        end of the overload until all are served about as quickly as before it."""
        records = self.phases["service"].records
        begin, end = self.calm_s, self.calm_s + self.overload_s
        before = [one.latency for one in records if one.intended < begin and one.is_good]
        within = [one for one in records if begin <= one.ended < end]
        good = sum(one.is_good for one in within) / self.overload_s / limit("medium", 5, 4)
        refused = percentiles([one.latency for one in within if one.is_refused])
        usual = 2 * percentiles(before)["p95"] / 1000
        after = [one for one in records if one.intended >= end]
        slow = [one.intended - end for one in after if not (one.is_good and one.latency <= usual)]
        return good, refused.get("p95", 0.0), recovered([one.intended - end for one in after], slow)


def recovered(all_of: list[float], slow: list[float]) -> float:
    """Return the time from which on at most a twentieth of the requests of 5 s are ``slow``.

    Both: times of requests, seconds.
    """

    def share(start: float) -> float:
        within = sum(start <= at < start + 5 for at in all_of)
        return sum(start <= at < start + 5 for at in slow) / max(within, 1)

    starts = np.arange(0, max(all_of) - 5, 0.5)
    return next((float(start) for start in starts if share(start) <= 0.05), max(all_of))
