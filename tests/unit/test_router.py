"""Which replica a request is offered to, as far as a handle's router knows them."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.request_router import PendingRequest

from sa_ray.contracts import Lora, ResolvedRequest
from sa_ray.scheduling.costs import Calibration, Cost
from sa_ray.scheduling.reports import BUSY_UNTIL, LORAS, SCALE, loras_reported, routing_report
from sa_ray.serving.router import EarliestCompletionRouter
from tests.support.waiting import until

VARIANT = DeploymentID("medium", "sa-ray")
SLOTS = 4
COST = Cost(batch=4, row=0, second=0.1, sampling=0, guidance=1, adapters=1)
WARM = (Lora(name="warm", strength=1.0, sha256="0" * 64),)


@dataclass
class Replica:
    """What the router sees of Ray's ``RunningReplica``."""

    replica_id: ReplicaID
    max_ongoing_requests: int = SLOTS
    routing_stats: dict[str, float] = field(default_factory=dict)


@dataclass
class BusyReplica(Replica):
    """A replica that refuses what is over its slots, and ends requests when it is told."""

    ongoing: list["Result"] = field(default_factory=list)
    refused: int = 0
    node_id: str = "node"
    availability_zone: str | None = None
    multiplexed_model_ids: frozenset[str] = frozenset()

    async def get_queue_len(self, *, deadline_s: float) -> int:
        await asyncio.sleep(0.001)
        return len(self.ongoing)

    async def take(self, request: PendingRequest) -> "Result | None":
        await asyncio.sleep(0.001)
        if len(self.ongoing) >= self.max_ongoing_requests:
            self.refused += 1
            return None
        self.ongoing.append(Result())
        return self.ongoing[-1]

    async def end(self) -> None:
        """End the request that came first, and tell its handle."""
        await self.ongoing.pop(0).end()


class Result:
    """What the router sees of a call that a replica has accepted."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[object], None]] = []

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._callbacks.append(callback)

    async def end(self) -> None:
        for callback in self._callbacks:
            await asyncio.to_thread(callback, None)
        await asyncio.sleep(0)


@pytest.fixture
async def router() -> EarliestCompletionRouter:
    return fresh_router()


@pytest.fixture
async def other_router() -> EarliestCompletionRouter:
    return fresh_router()


def fresh_router() -> EarliestCompletionRouter:
    router = EarliestCompletionRouter(
        deployment_id=VARIANT,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    router.initialize_state(cost=COST.model_dump(), max_rows=2, max_seconds=600)
    return router


@pytest.fixture
def replicas() -> list[Replica]:
    return [Replica(ReplicaID(name, VARIANT)) for name in ("a", "b", "c")]


def pending(name: str, duration: float = 5, loras: tuple[Lora, ...] = ()) -> PendingRequest:
    clip = ResolvedRequest(
        model="medium", prompt="rain", duration=duration, steps=8, cfg_scale=1, seed=0, loras=loras
    )
    return PendingRequest([clip], {}, RequestMetadata(name, name))


async def names(
    router: EarliestCompletionRouter, replicas: list[Replica], request: PendingRequest
) -> list[list[str]]:
    ranks = await router.choose_replicas(replicas, request)  # type: ignore[arg-type]
    return [[replica.replica_id.unique_id for replica in rank] for rank in ranks]


def lengths(router: EarliestCompletionRouter, replicas: list[Replica], *known: int) -> None:
    for replica, length in zip(replicas, known, strict=True):
        router.on_new_queue_len_info(replica.replica_id, length)


async def send(
    router: EarliestCompletionRouter, replica: Replica, request: PendingRequest
) -> Result:
    result = Result()
    router.on_send_request(replica.replica_id)
    router.on_request_routed(request, replica.replica_id, result)
    return result


async def test_a_replica_with_a_long_clip_comes_last(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    await send(router, replicas[0], pending("long", 300))
    await send(router, replicas[1], pending("short"))

    assert await names(router, replicas, pending("next")) == [["c"], ["b"], ["a"]]


async def test_of_equals_serve_asks_two(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    first, second = await names(router, replicas, pending("one"))

    assert len(first) == 2
    assert set(first + second) == {"a", "b", "c"}


async def test_requests_chosen_for_at_once_spread(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)

    chosen = [(await names(router, replicas, pending(str(n), 300)))[0][0] for n in range(3)]

    assert sorted(chosen) == ["a", "b", "c"]


async def test_the_best_batch_that_forms_has_room(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    await send(router, replicas[0], pending("longer", 20))
    await send(router, replicas[1], pending("running"))
    await send(router, replicas[1], pending("waiting"))
    await send(router, replicas[2], pending("running too"))
    await send(router, replicas[2], pending("long and waiting", 300))

    assert await names(router, replicas, pending("next")) == [["b"], ["a"], ["c"]]


async def test_what_replicas_measured_at_their_start_is_what_requests_cost(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    """By what was assumed, two short clips one after the other are done before a long one."""
    two = replicas[:2]
    router.initialize_state(cost=COST.model_dump(), max_rows=2, max_seconds=600)
    router.update_replicas(two)  # type: ignore[arg-type]
    lengths(router, two, 0, 0)
    await send(router, two[0], pending("long", 100))
    await send(router, two[1], pending("short", 1))
    await send(router, two[1], pending("short, too", 1))
    assert await names(router, two, pending("next")) == [["b"], ["a"]]

    whole = Cost(batch=20, row=0, second=0, sampling=0, guidance=1)
    measured = Calibration(cost=whole, max_rows=1, max_seconds=60)
    two[1].routing_stats = routing_report(0.0, None)
    two[0].routing_stats = routing_report(0.0, None, calibration=measured)
    router.update_replicas(two)  # type: ignore[arg-type]

    assert await names(router, two, pending("next")) == [["a"], ["b"]]


async def test_full_replicas_are_not_offered_anything(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, SLOTS, 0, SLOTS)
    await send(router, replicas[1], pending("long", 300))

    assert await names(router, replicas, pending("next")) == [["b"]]


async def test_if_all_are_full_two_are_asked_and_serve_pauses(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, SLOTS, SLOTS, SLOTS)
    request = pending("next")

    [rank] = await names(router, replicas, request)

    assert len(rank) == 2
    assert request.routing_context.should_backoff

    lengths(router, replicas, 0, 0, 0)
    other = PendingRequest([], {}, RequestMetadata("other", "other"))

    assert len((await names(router, replicas, other))[0]) == 2
    assert other.routing_context.should_backoff


async def test_what_others_sent_counts_by_number_and_by_the_replicas_word(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 1, 2, 0)

    assert await names(router, replicas, pending("one")) == [["c"], ["a"], ["b"]]

    router.on_request_completed(replicas[2].replica_id, "one")
    replicas[0].routing_stats = {BUSY_UNTIL: time.time() + 100}

    assert await names(router, replicas, pending("two")) == [["c"], ["b"], ["a"]]


async def test_a_replica_that_has_turned_a_request_away_is_as_busy_as_it_said(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 1, 2)
    request = pending("one")
    [clip] = request.args
    now = time.time()

    request.args = [clip.offered({"a": now + 30, "b": now + 20, "gone": now + 90})]

    assert await names(router, replicas, request) == [["c"], ["b"], ["a"]]


async def test_what_was_chosen_and_refused_counts_no_more(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    await names(router, replicas[:1], pending("refused", 300))

    assert await names(router, replicas[:2], pending("one")) == [["b"], ["a"]]

    router.on_request_completed(replicas[0].replica_id, "refused")
    router.on_request_completed(replicas[1].replica_id, "one")
    [equals] = await names(router, replicas[:2], pending("two"))

    assert set(equals) == {"a", "b"}


async def test_a_replicas_word_counts_unless_the_handle_has_heard_of_it_since(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    await send(router, replicas[1], pending("short"))
    replicas[0].routing_stats = {BUSY_UNTIL: time.time() + 100}
    both = replicas[:2]

    assert await names(router, both, pending("one")) == [["b"], ["a"]], "others may have sent it"

    router.on_request_completed(replicas[1].replica_id, "one")
    await (await send(router, replicas[0], pending("quick"))).end()
    router.decrement_queue_len_cache(replicas[0].replica_id)

    assert await names(router, both, pending("two")) == [["a"], ["b"]], "it has just answered"


async def test_an_ended_call_is_forgotten(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    result = await send(router, replicas[0], pending("long", 300))
    for replica in replicas[1:]:
        await send(router, replica, pending(f"for {replica.replica_id.unique_id}"))

    assert (await names(router, replicas, pending("next")))[-1] == ["a"]

    router.on_request_completed(replicas[0].replica_id, "long")
    await result.end()
    router.decrement_queue_len_cache(replicas[0].replica_id)

    assert (await names(router, replicas, pending("next")))[0] == ["a"]


async def test_an_answer_before_the_request_counts_as_routed_leaves_nothing(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    for n in range(3):
        request = pending(f"quick {n}", 300)
        await names(router, replicas[:1], request)
        router.on_request_completed(replicas[0].replica_id, f"quick {n}")
        await (await send(router, replicas[0], request)).end()
        router.decrement_queue_len_cache(replicas[0].replica_id)
    await send(router, replicas[1], pending("short"))
    await send(router, replicas[2], pending("short too"))

    assert (await names(router, replicas, pending("next")))[0] == ["a"]


async def test_the_scale_of_the_replicas_is_the_routers(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 1, 0)
    await send(router, replicas[0], pending("long", 300))
    replicas[1].routing_stats = {BUSY_UNTIL: time.time() + 50}
    both = replicas[:2]

    assert (await names(router, both, pending("one")))[0] == ["a"], "34 s against 50"

    router.on_request_completed(replicas[0].replica_id, "one")
    for replica in both:
        replica.routing_stats = {**replica.routing_stats, SCALE: 2.0}
    router.update_replicas(both)  # type: ignore[arg-type]

    assert (await names(router, both, pending("two")))[0] == ["b"], "68 s against 50"


async def test_a_replica_that_holds_the_adapters_comes_first(
    router: EarliestCompletionRouter, replicas: list[Replica]
) -> None:
    lengths(router, replicas, 0, 0, 0)
    replicas[1].routing_stats = routing_report(0.0, None, loras=WARM)

    assert (await names(router, replicas, pending("one", loras=WARM)))[0] == ["b"]
    router.on_request_completed(replicas[1].replica_id, "one")
    assert (await names(router, replicas, pending("two")))[-1] == ["b"]


def test_adapters_that_another_release_reports_are_not_known() -> None:
    assert loras_reported(routing_report(0.0, None, loras=WARM)) == WARM
    assert routing_report(0.0, None, loras=()) == {}
    assert loras_reported({LORAS: [{"name": "warm"}]}) == ()


def test_a_report_says_little_and_changes_seldom() -> None:
    assert routing_report(0.5, None) == {}
    assert routing_report(0.5, 1.0) == {SCALE: 1.0}
    assert routing_report(0.5, 1.08) == {SCALE: 1.0}
    assert routing_report(0.5, 2.0)[SCALE] == pytest.approx(2.0, rel=0.13)

    until = routing_report(300, 1.0)[BUSY_UNTIL]
    assert until == pytest.approx(time.time() + 300, abs=30 / 2)
    assert until % 16 == 0


async def test_a_slot_that_comes_free_is_given_to_one_of_those_who_wait(
    router: EarliestCompletionRouter,
) -> None:
    replica = BusyReplica(ReplicaID("a", VARIANT))
    router.update_replicas([replica])  # type: ignore[list-item]
    calls = [asyncio.create_task(call(router, replica, f"{one}")) for one in range(5 * SLOTS)]

    for left in range(len(calls), 0, -1):
        there = min(SLOTS, left)
        await until(lambda there=there: len(replica.ongoing) == there)
        await replica.end()

    await asyncio.gather(*calls)
    assert replica.refused == 0


async def test_a_replica_that_comes_is_used_by_those_who_wait(
    router: EarliestCompletionRouter,
) -> None:
    full, new = Replica(ReplicaID("a", VARIANT)), Replica(ReplicaID("b", VARIANT))
    router.update_replicas([full])  # type: ignore[list-item]
    for name in ("1", "2", "3", "4"):
        await names(router, [full], pending(name))
        await send(router, full, pending(name))
    waiting = asyncio.create_task(names(router, [full], pending("next")))
    await asyncio.sleep(0.01)
    router.update_replicas([full, new])  # type: ignore[list-item]

    assert (await waiting)[0] == ["b"]


async def test_a_handle_gets_its_share_of_slots_beside_one_that_had_them_all(
    router: EarliestCompletionRouter, other_router: EarliestCompletionRouter
) -> None:
    replica = BusyReplica(ReplicaID("a", VARIANT))
    held = {router: 0, other_router: 0}

    async def client(mine: EarliestCompletionRouter, name: str) -> None:
        for turn in itertools.count():
            await call(mine, replica, f"{name} {turn}", held)

    async def ends_one_after_the_other() -> None:
        while True:
            await asyncio.sleep(0.002)
            if replica.ongoing:
                await replica.end()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for one in (router, other_router):
            one.update_replicas([replica])  # type: ignore[list-item]
            clients = [group.create_task(client(one, f"{id(one)} {n}")) for n in range(3 * SLOTS)]
            if one is router:
                await until(lambda: len(replica.ongoing) == SLOTS)
                first = [group.create_task(ends_one_after_the_other()), *clients]
        await until(lambda: held[other_router] >= SLOTS / 2)
        for task in (*first, *clients):
            task.cancel()


async def call(
    router: EarliestCompletionRouter,
    replica: BusyReplica,
    name: str,
    held: dict[EarliestCompletionRouter, int] | None = None,
) -> None:
    """Have a request routed, sent and answered as Serve does; count it in ``held`` meanwhile."""
    request, is_retry, result = pending(name), False, None
    while result is None:
        chosen = await router._choose_replica_for_request(request, is_retry=is_retry)
        router.on_send_request(chosen.replica_id)
        result = await replica.take(request)
        router.on_new_queue_len_info(chosen.replica_id, len(replica.ongoing))
        is_retry = True
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    router.on_request_routed(request, chosen.replica_id, result)
    tell = partial(router.decrement_queue_len_cache, chosen.replica_id)
    for heard in (tell, ended.set):
        result.add_done_callback(lambda _, heard=heard: loop.call_soon_threadsafe(heard))
    counts = {} if held is None else held
    counts[router] = counts.get(router, 0) + 1
    await ended.wait()
    counts[router] -= 1
