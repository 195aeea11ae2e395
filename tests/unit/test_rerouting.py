"""Requests that a replica turns away, sent again."""

import pytest

from sa_ray.contracts import ResolvedRequest
from sa_ray.errors import InfrastructureError
from sa_ray.serving.messages import BusyReplica
from sa_ray.serving.rerouting import rerouted
from tests.support.jobs import resolved

pytestmark = pytest.mark.anyio

REQUEST = resolved()
BUSY = BusyReplica("first", until=100.0)


class Replicas:
    """The first answers are ``turned_away``."""

    def __init__(self, *turned_away: BusyReplica) -> None:
        self._turned_away = list(turned_away)
        self.sent: list[ResolvedRequest] = []
        self.until: list[float] = []

    async def send(self, request: ResolvedRequest) -> str | BusyReplica:
        self.sent.append(request)
        return self._turned_away.pop(0) if self._turned_away else "made"

    async def send_again(self, request: ResolvedRequest, until: float) -> str | BusyReplica:
        self.until.append(until)
        return await self.send(request)


async def made_by(replicas: Replicas, count: int) -> str:
    return await rerouted(REQUEST, count, replicas.send, replicas.send_again)


async def test_what_only_one_replica_could_make_is_not_offered() -> None:
    replicas = Replicas()

    assert await made_by(replicas, 1) == "made"
    assert [request.busy for request in replicas.sent] == [None]


async def test_one_of_several_replicas_may_turn_it_away() -> None:
    replicas = Replicas()

    assert await made_by(replicas, 2) == "made"
    assert [request.busy for request in replicas.sent] == [{}]


async def test_what_was_turned_away_is_sent_again_with_what_is_known_of_who_did() -> None:
    replicas = Replicas(BUSY)

    assert await made_by(replicas, 2) == "made"
    assert [request.busy for request in replicas.sent] == [{}, {"first": 100.0}]
    assert replicas.until == [100.0]


async def test_what_is_turned_away_twice_fails() -> None:
    with pytest.raises(InfrastructureError):
        await made_by(Replicas(BUSY, BUSY), 2)
