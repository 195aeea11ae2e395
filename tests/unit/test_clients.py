"""Who asks: addresses, this machine, and what each address has open."""

import asyncio
from contextlib import ExitStack, suppress

import pytest
from starlette.types import Scope

from sa_ray.errors import OverloadedError
from sa_ray.serving.client_address import address_of, is_local
from sa_ray.serving.ingress.clients import ClientShares


def asked_by(host: str | None, *names: str) -> Scope:
    headers = [(name.encode(), b"127.0.0.1") for name in names]
    return {"type": "http", "client": host and (host, 5), "headers": headers}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_request_of_this_machine_is_local(host: str) -> None:
    assert is_local(asked_by(host, "host", "accept"))


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "::2", "localhost", "", None])
def test_others_are_not(host: str | None) -> None:
    assert not is_local(asked_by(host))


@pytest.mark.parametrize(
    "name", ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]
)
def test_nor_is_what_a_proxy_passes_on(name: str) -> None:
    assert not is_local(asked_by("127.0.0.1", name))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        (None, ""),
    ],
)
def test_an_ipv6_client_is_its_network(host: str | None, address: str) -> None:
    assert address_of(asked_by(host)) == address


async def test_one_over_the_limit_is_refused_until_one_is_closed() -> None:
    shares = ClientShares(2)
    with ExitStack() as stack:
        stack.enter_context(shares.share("a"))
        with shares.share("a"):
            with pytest.raises(
                OverloadedError, match="STABLE_AUDIO_MAX_OPEN_PER_CLIENT"
            ) as refused:
                stack.enter_context(shares.share("a"))
            stack.enter_context(shares.share("b"))
        stack.enter_context(shares.share("a"))

    assert refused.value.retry_after_s
    with shares.share("a"), shares.share("a"):
        pass


async def test_what_is_closed_at_once_counts_on_for_a_while() -> None:
    shares = ClientShares(1)
    with shares.share("a", least_s=0.01):
        pass

    with pytest.raises(OverloadedError), shares.share("a"):
        pass
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.01)
            with suppress(OverloadedError), shares.share("a"):
                break
