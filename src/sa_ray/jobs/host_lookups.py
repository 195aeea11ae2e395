"""Look up the hosts of webhooks in threads of their own, which slow names cannot fill.

The system's resolver blocks its thread for as long as name servers are silent: half a minute or
more, whether or not anybody still waits. Whoever has a domain has any number of slow names.
"""

import asyncio
import errno
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from weakref import WeakValueDictionary

QUICK_LOOKUPS = 16
NEW_LOOKUPS = 24
SLOW_LOOKUPS = 24
"""Most names looked up at once: those whose last lookup was quick; of the others, those of domains
without a slow one; and the rest."""

DOMAIN_LOOKUPS = 8
"""Most names looked up at once in one domain, such as ``example.org``; as many that were quick
besides, since in ``co.uk`` they are of many owners."""

SLOW_S = 2.0
"""Seconds from which a lookup is slow."""

PATIENCE_S = 10.0
"""Longest wait for a thread, in seconds."""

REMEMBERED = 4096
"""Quick names, and slow domains, that are remembered."""

LookUp = Callable[[str], list[str]]
"""Returns the IP addresses of a host in ASCII. Raises ``OSError`` if it has none."""


def ask_system(host: str) -> list[str]:
    """Return the addresses that the system's resolver gives."""
    # As bytes: text would pass a codec that fails on some names.
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class HostLookups:
    """Looks up hosts, a name once at a time however many ask. For one event loop.

    ``look_up`` runs in a thread, ``clock`` returns seconds.
    """

    def __init__(
        self, look_up: LookUp = ask_system, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        most = QUICK_LOOKUPS + NEW_LOOKUPS + SLOW_LOOKUPS
        self._threads = ThreadPoolExecutor(most, "webhook-lookup")
        self._turns_of_quick = asyncio.Semaphore(QUICK_LOOKUPS)
        self._turns_of_new = asyncio.Semaphore(NEW_LOOKUPS)
        self._turns_of_slow = asyncio.Semaphore(SLOW_LOOKUPS)
        self._turns_in: WeakValueDictionary[tuple[str, bool], asyncio.Semaphore] = (
            WeakValueDictionary()
        )
        self._quick_names: OrderedDict[str, None] = OrderedDict()
        self._slow_domains: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """Return the IP addresses of ``host`` (ASCII). Raises ``OSError`` if it has none.

        A lookup that nobody waits for any more holds its thread until it ends.
        """
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            host = host.lower()
        lookup = self._running.get(host)
        if lookup is None:
            lookup = self._running[host] = asyncio.create_task(self._in_turn(host))
            lookup.add_done_callback(partial(self._ended, host))
        return await asyncio.shield(lookup)

    def close(self) -> None:
        """Stop waiting for what is being looked up."""
        for lookup in self._running.values():
            lookup.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_turn(self, host: str) -> list[str]:
        domain = ".".join(host.split(".")[-2:])
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    for turns in self._turns(host, domain):
                        await held.enter_async_context(turns)
            except TimeoutError:
                raise OSError(errno.EAGAIN, "too many slow names are being looked up") from None
            began = self._clock()
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._look_up, host)
            finally:
                if self._clock() - began < SLOW_S:
                    _remember(self._quick_names, host)
                else:
                    self._quick_names.pop(host, None)
                    _remember(self._slow_domains, domain)

    def _turns(self, host: str, domain: str) -> Iterator[asyncio.Semaphore]:
        """Iterate over what ``host`` has to wait for, one after the other."""
        was_quick = host in self._quick_names
        yield self._turns_in.setdefault((domain, was_quick), asyncio.Semaphore(DOMAIN_LOOKUPS))
        if was_quick:
            yield self._turns_of_quick
        else:
            # Not before: names that waited with it may have been slow.
            yield self._turns_of_slow if domain in self._slow_domains else self._turns_of_new

    def _ended(self, host: str, lookup: "asyncio.Task[list[str]]") -> None:
        del self._running[host]
        if not lookup.cancelled():
            lookup.exception()  # seen, though nobody may wait for it


def _remember(names: OrderedDict[str, None], name: str) -> None:
    """Add ``name`` as the newest of ``names``; the oldest is forgotten where they are too many."""
    names[name] = None
    names.move_to_end(name)
    if len(names) > REMEMBERED:
        names.popitem(last=False)
