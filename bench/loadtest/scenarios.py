"""The scenarios: one for each row of the table of goals."""

from collections.abc import Callable

from bench.loadtest.costs import (
    Alone,
    Reads,
    Submits,
    SubmitsToPostgresql,
    SubmitsToRedis,
    SyncCost,
)
from bench.loadtest.pretended_gpus import Mixed, OneGpu, Overload, Scaling
from bench.loadtest.stage import Scenario

ALL: tuple[Callable[[float], Scenario], ...] = (
    SyncCost,
    Alone,
    Reads,
    Submits,
    SubmitsToRedis,
    OneGpu,
    *(lambda seconds, gpus=gpus: Scaling(seconds, gpus) for gpus in (1, 2, 4, 8)),
    Mixed,
    Overload,
)
"""Those of the table, in an order in which they share services."""

MORE: tuple[Callable[[float], Scenario], ...] = (SubmitsToPostgresql,)
"""Run only if they are named."""


def chosen(names: list[str], seconds: float) -> list[Scenario]:
    """Return the scenarios whose names begin with one of ``names``; ``ALL`` if there are none.

    Raises ``ValueError`` if one of ``names`` is no beginning.
    """
    scenarios = [make(seconds) for make in (*ALL, *(MORE if names else ()))]
    known = [one.name for one in scenarios]
    for name in names:
        if not any(one.startswith(name) for one in known):
            raise ValueError(f"there is no scenario {name}; there are {', '.join(known)}")
    return [one for one in scenarios if not names or one.name.startswith(tuple(names))]
