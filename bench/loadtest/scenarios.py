"""The scenarios: one for each row of the table of goals."""

from collections.abc import Callable
from functools import partial

from bench.loadtest.costs import Alone, Reads, Submits, SyncCost
from bench.loadtest.pretended_gpus import Mixed, OneGpu, Overload, Scaling
from bench.loadtest.stage import Scenario

ALL: tuple[Callable[[float], Scenario], ...] = (
    SyncCost,
    Alone,
    Reads,
    Submits,
    partial(Submits, store="redis"),
    OneGpu,
    *(partial(Scaling, gpus=gpus) for gpus in (1, 2, 4, 8)),
    Mixed,
    Overload,
)
"""Those of the table, in an order in which they share services."""

MORE: tuple[Callable[[float], Scenario], ...] = (
    partial(Mixed, gpus=2),
    partial(Reads, store="redis"),
    partial(Submits, store="postgresql"),
    partial(Reads, store="postgresql"),
    *(partial(Scaling, gpus=gpus) for gpus in (16, 32)),
)
"""Run only if they are named."""


def chosen(names: list[str], seconds: float) -> list[Scenario]:
    """Return the scenarios called ``names``, or whose names begin so if none is called so; ``ALL``
    if there are no ``names``.

    Raises ``ValueError`` if one of ``names`` is no beginning.
    """
    scenarios = [make(seconds) for make in (*ALL, *(MORE if names else ()))]
    known = [one.name for one in scenarios]
    wanted: set[str] = set() if names else set(known)
    for name in names:
        found = {one for one in known if one == name} or {
            one for one in known if one.startswith(name)
        }
        if not found:
            raise ValueError(f"there is no scenario {name}; there are {', '.join(known)}")
        wanted |= found
    return [one for one in scenarios if one.name in wanted]
