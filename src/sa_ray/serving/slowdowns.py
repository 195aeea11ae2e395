"""Ask replicas whether they are slower than they should be: Serve's status does not tell."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import ray
from ray.serve._private.constants import SERVE_NAMESPACE

from sa_ray.catalogue import VARIANTS
from sa_ray.contracts import VariantName
from sa_ray.scheduling.reports import SLOWDOWN
from sa_ray.serving.serve_status import Deployment

logger = logging.getLogger(__name__)

ASK_PERIOD_S: Final = 10.0
"""Seconds between two questions to a replica."""

ANSWER_TIMEOUT_S: Final = 5.0


async def routing_stats(actor_name: str) -> Mapping[str, Any]:
    """Return the routing statistics of a replica, which Serve tells the handles alone."""
    actor: Any = await asyncio.to_thread(ray.get_actor, actor_name, SERVE_NAMESPACE)
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        stats: Mapping[str, Any] = await actor.record_routing_stats.remote()
    return stats


class Slowdowns:
    """Follows which variants have a slow replica, and why. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Mapping[str, Any]]] = routing_stats,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._next = clock()
        self._replicas: dict[str, str | None] = {}
        """By replica: why it is slow; None: it is not."""
        self.by_variant: dict[VariantName, str] = {}

    async def look(self, deployments: Mapping[str, Deployment]) -> None:
        """Ask the replicas of ``deployments``, if it is time to; what does not answer is as before.

        Replicas that are gone, or new, are noticed at once.
        """
        running = {name: deployments[name].replicas for name in VARIANTS if name in deployments}
        is_time = self._clock() >= self._next
        if is_time:
            self._next = self._clock() + ASK_PERIOD_S
        asked = [
            replica
            for replicas in running.values()
            for replica in replicas
            if is_time or replica not in self._replicas
        ]
        self._replicas |= dict(zip(asked, await asyncio.gather(*map(self._of, asked)), strict=True))
        present = {one for replicas in running.values() for one in replicas}
        self._replicas = {one: why for one, why in self._replicas.items() if one in present}
        whys = {
            name: next((why for one in replicas if (why := self._replicas[one])), None)
            for name, replicas in running.items()
        }
        self.by_variant = {name: why for name, why in whys.items() if why}

    async def _of(self, replica: str) -> str | None:
        try:
            return (await self._ask(replica)).get(SLOWDOWN)
        except Exception as error:  # noqa: BLE001 - it may just have stopped
            logger.info("replica %s does not say how it fares: %s", replica, error)
            return self._replicas.get(replica)
