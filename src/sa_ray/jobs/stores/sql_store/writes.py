"""Turn writes into transactions: one for each, or one for all that wait together."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sa_ray.jobs.stores.sql_store.engine import transaction

T = TypeVar("T")


class Writes(Protocol):
    def run(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns once its writes are durable; if it raises, none is kept."""
        ...

    def close(self) -> None:
        """Finish the writes under way; no more may follow."""
        ...


class SingleWrites:
    """Runs one transaction for each write: servers themselves make many durable at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, work: Callable[[Connection], T]) -> T:
        with transaction(self._engine) as connection:
            return work(connection)

    def close(self) -> None:
        pass


class GroupedWrites:
    """Runs one transaction for all writes of this process that wait at the same time.

    SQLite has one writer at a time, which waits for the disk at the end of each transaction. So one
    thread does the work of all that wait, and waits for the disk once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Connection], T]) -> T:
        mine = _Write(work)
        self._waiting.put(mine)
        value: T = mine.outcome.result()
        return value

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _write_forever(self) -> None:
        while (first := self._waiting.get()) is not None:
            group: list[_Write | None] = [first]
            while not self._waiting.empty() and group[-1] is not None:
                group.append(self._waiting.get())
            writes = [write for write in group if write is not None]
            _commit(self._engine, writes)
            if group[-1] is None:
                return


class _Write:
    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.outcome: Future[Any] = Future()


def _commit(engine: Engine, group: list[_Write]) -> None:
    """Write the group in one transaction, and tell each what became of it once that is durable."""
    try:
        with transaction(engine) as connection:
            apart = len(group) > 1
            told = [_perform(write, connection, apart=apart) for write in group]
    except BaseException as error:  # noqa: BLE001 - raised again in every thread it concerns
        for write in group:
            write.outcome.set_exception(error)
    else:
        for tell in told:
            tell()


def _perform(write: _Write, connection: Connection, *, apart: bool) -> Callable[[], None]:
    """Do the work, ``apart`` so that it can fail alone. Faults of the database fail the group."""
    try:
        if apart:
            with connection.begin_nested():
                value = write.work(connection)
        else:
            value = write.work(connection)
    except DBAPIError:
        raise
    except Exception as error:
        if not apart:
            raise
        fault = error
        return lambda: write.outcome.set_exception(fault)
    return lambda: write.outcome.set_result(value)
