"""Looking up hosts: slow names hold up no other."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from sa_ray.jobs import host_lookups
from sa_ray.jobs.host_lookups import (
    DOMAIN_LOOKUPS,
    NEW_LOOKUPS,
    SLOW_LOOKUPS,
    SLOW_S,
    HostLookups,
)
from tests.support.clock import Clock

LONG = 30.0
ADDRESS = "192.0.2.1"


class Resolver:
    """Answers at once, but for names with ``slow`` in them, which wait until ``go_on`` is set."""

    def __init__(self, clock: Clock) -> None:
        self.go_on = threading.Event()
        self.asked: list[str] = []
        self.pause_s = SLOW_S
        """How long a slow name takes."""
        self._clock = clock

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if "slow" in host:
            self.go_on.wait(LONG)
            self._clock.now += self.pause_s
        if "wrong" in host:
            raise OSError(-2, "Name or service not known")
        return [ADDRESS]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resolver(clock: Clock) -> Iterator[Resolver]:
    one = Resolver(clock)
    yield one
    one.go_on.set()


@pytest.fixture
async def lookups(resolver: Resolver, clock: Clock) -> AsyncIterator[HostLookups]:
    one = HostLookups(resolver, clock=clock)
    yield one
    one.close()


def asked_for(lookups: HostLookups, *hosts: str) -> list["asyncio.Task[list[str]]"]:
    return [asyncio.create_task(lookups.addresses(host)) for host in hosts]


async def reach(resolver: Resolver, count: int) -> None:
    """Wait until so many names have been asked for."""
    async with asyncio.timeout(LONG):
        while len(resolver.asked) < count:
            await asyncio.sleep(0.001)


async def test_an_address_is_its_own_without_asking(
    lookups: HostLookups, resolver: Resolver
) -> None:
    assert await lookups.addresses("192.0.2.9") == ["192.0.2.9"]
    assert await lookups.addresses("2001:db8::1") == ["2001:db8::1"]
    assert resolver.asked == []


async def test_any_number_of_slow_names_of_a_domain_hold_up_no_other(
    lookups: HostLookups, resolver: Resolver
) -> None:
    await lookups.addresses("good.domain.example")
    asked_for(lookups, *(f"{number}.slow.domain.example" for number in range(200)))
    await reach(resolver, 1 + DOMAIN_LOOKUPS)

    async with asyncio.timeout(LONG):
        assert await lookups.addresses("new.test") == [ADDRESS]
        assert await lookups.addresses("good.domain.example") == [ADDRESS]

    assert len(resolver.asked) == DOMAIN_LOOKUPS + 3


async def test_slow_names_of_many_domains_hold_up_no_name_that_was_quick(
    lookups: HostLookups, resolver: Resolver
) -> None:
    await lookups.addresses("good.test")
    asked_for(lookups, *(f"slow.example{number}" for number in range(200)))
    await reach(resolver, 1 + NEW_LOOKUPS)

    async with asyncio.timeout(LONG):
        assert await lookups.addresses("GOOD.test") == [ADDRESS]

    assert resolver.asked[-1] == "good.test"
    assert len(resolver.asked) == NEW_LOOKUPS + 2


async def test_names_of_a_domain_that_were_quick_and_are_slow_hold_up_no_other(
    lookups: HostLookups, resolver: Resolver
) -> None:
    turning = [f"slow{number}.domain.example" for number in range(200)]
    await lookups.addresses("good.test")
    resolver.pause_s = 0.0
    resolver.go_on.set()
    await asyncio.gather(*asked_for(lookups, *turning))
    resolver.go_on.clear()
    asked_for(lookups, *turning)
    await reach(resolver, 1 + 200 + DOMAIN_LOOKUPS)

    async with asyncio.timeout(LONG):
        assert await lookups.addresses("good.test") == [ADDRESS]

    assert resolver.asked[-1] == "good.test"
    assert len(resolver.asked) == 1 + 200 + DOMAIN_LOOKUPS + 1


async def test_slow_names_of_domains_that_had_some_hold_up_no_new_name(
    lookups: HostLookups, resolver: Resolver
) -> None:
    domains = [f"example{number}" for number in range(200)]
    resolver.go_on.set()
    await asyncio.gather(*asked_for(lookups, *(f"slow.{domain}" for domain in domains)))
    resolver.go_on.clear()
    asked_for(lookups, *(f"another-slow.x.slow.{domain}" for domain in domains))
    await reach(resolver, 200 + SLOW_LOOKUPS)

    async with asyncio.timeout(LONG):
        assert await lookups.addresses("new.test") == [ADDRESS]

    assert resolver.asked[-1] == "new.test"
    assert len(resolver.asked) == 200 + SLOW_LOOKUPS + 1


async def test_a_name_is_looked_up_once_for_all_who_ask_and_again_for_later_ones(
    lookups: HostLookups, resolver: Resolver
) -> None:
    asking = asked_for(lookups, *["slow.test"] * 20)
    await reach(resolver, 1)
    asking[0].cancel()
    resolver.go_on.set()

    assert await asyncio.gather(*asking[1:]) == [[ADDRESS]] * 19
    await lookups.addresses("slow.test")
    assert resolver.asked == ["slow.test"] * 2


async def test_who_gets_no_turn_is_told_so_and_leaves_the_queue(
    lookups: HostLookups, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lookups, "PATIENCE_S", 0.05)
    [*asking] = asked_for(lookups, *(f"{number}.slow.example" for number in range(200)))

    waiting = asking[DOMAIN_LOOKUPS:]
    told = await asyncio.gather(*waiting, return_exceptions=True)

    assert {str(error) for error in told} == {"[Errno 11] too many slow names are being looked up"}
    assert len(resolver.asked) == DOMAIN_LOOKUPS
    resolver.go_on.set()
    assert await lookups.addresses("9.slow.example") == [ADDRESS]


async def test_a_name_without_an_address_is_an_error(lookups: HostLookups) -> None:
    with pytest.raises(OSError, match="not known"):
        await lookups.addresses("wrong.test")


async def test_the_systems_resolver_is_asked() -> None:
    system = HostLookups()

    assert "127.0.0.1" in await system.addresses("localhost")
    with pytest.raises(OSError, match=r"\[Errno"):
        await system.addresses("does-not-exist.invalid")

    system.close()
