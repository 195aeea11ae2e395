"""What replicas say of their speed, as the ingress asks them."""

from collections.abc import Mapping
from typing import Any

from sa_ray.scheduling.reports import SLOWDOWN, routing_report
from sa_ray.serving.ingress.health import variant_health
from sa_ray.serving.serve_status import Deployment
from sa_ray.serving.slowdowns import ASK_PERIOD_S, Slowdowns
from tests.support.clock import Clock

WHY = "CUDA graphs are off"


def deployment(*replicas: str) -> Deployment:
    return Deployment("HEALTHY", "UNSPECIFIED", "", {"RUNNING": len(replicas)}, {}, replicas)


class Replicas:
    """Answers by name; those it does not know fail."""

    def __init__(self, **answers: str | None) -> None:
        self.answers: dict[str, str | None] = answers
        self.asked: list[str] = []

    async def ask(self, name: str) -> Mapping[str, Any]:
        self.asked.append(name)
        return routing_report(0.0, None, slowdown=self.answers[name])


async def test_a_variant_is_slow_if_one_of_its_replicas_is() -> None:
    replicas = Replicas(a=None, b=WHY, c=None)
    slowdowns = Slowdowns(replicas.ask, Clock())

    await slowdowns.look({"small-sfx": deployment("a", "b"), "medium": deployment("c")})

    assert slowdowns.by_variant == {"small-sfx": WHY}
    told = variant_health(deployment("a", "b"), slowdowns.by_variant["small-sfx"])
    assert (told.state, told.slowdown) == ("ready", WHY)


async def test_new_replicas_are_asked_at_once_and_all_of_them_now_and_then() -> None:
    clock, replicas = Clock(), Replicas(a=None, b=WHY)
    slowdowns = Slowdowns(replicas.ask, clock)

    await slowdowns.look({"small-sfx": deployment("a")})
    replicas.answers["a"] = WHY
    await slowdowns.look({"small-sfx": deployment("a")})
    assert slowdowns.by_variant == {}

    await slowdowns.look({"small-sfx": deployment("a", "b")})
    assert slowdowns.by_variant == {"small-sfx": WHY}
    await slowdowns.look({"small-sfx": deployment("a")})
    assert slowdowns.by_variant == {}, "b is gone"
    assert replicas.asked == ["a", "b"]

    clock.now += ASK_PERIOD_S
    await slowdowns.look({"small-sfx": deployment("a")})
    assert slowdowns.by_variant == {"small-sfx": WHY}


async def test_a_replica_that_does_not_answer_is_as_it_was() -> None:
    clock, replicas = Clock(), Replicas(a=WHY)
    slowdowns = Slowdowns(replicas.ask, clock)
    await slowdowns.look({"small-sfx": deployment("a")})

    replicas.answers.clear()
    clock.now += ASK_PERIOD_S
    await slowdowns.look({"small-sfx": deployment("a", "new")})

    assert slowdowns.by_variant == {"small-sfx": WHY}


def test_a_replica_reports_a_slowdown_only_where_there_is_one() -> None:
    assert SLOWDOWN not in routing_report(0.0, 1.0)
    assert routing_report(0.0, 1.0, slowdown=WHY)[SLOWDOWN] == WHY
