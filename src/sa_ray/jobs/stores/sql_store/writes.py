"""Turn writes into transactions: one for each, or one for all that wait together."""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sa_ray.jobs.stores.sql_store.engine import transaction

T = TypeVar("T")


class Writes(Protocol):
    def run(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns once its writes are durable; if it raises, none is kept."""
        ...


class SingleWrites:
    """Runs one transaction for each write: servers themselves make many durable at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, work: Callable[[Connection], T]) -> T:
        with transaction(self._engine) as connection:
            return work(connection)


class GroupedWrites:
    """Runs one transaction for all writes of this process that wait at the same time.

    SQLite has one writer at a time, which waits for the disk at the end of each transaction. So the
    thread whose turn it is does the work of all that wait, and waits for the disk once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()
        self._arrivals = threading.Lock()
        self._waiting: list[_Write] = []

    def run(self, work: Callable[[Connection], T]) -> T:
        mine = _Write(work)
        with self._arrivals:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                with self._arrivals:
                    group, self._waiting = self._waiting, []
                self._commit(group)
        if mine.error is not None:
            raise mine.error
        value: T = mine.value
        return value

    def _commit(self, group: "list[_Write]") -> None:
        try:
            with transaction(self._engine) as connection:
                if len(group) == 1:
                    group[0].value = group[0].work(connection)
                else:
                    for write in group:
                        write.perform(connection)
        except BaseException as error:  # noqa: BLE001 - raised again in every thread it concerns
            for write in group:
                write.error = error
        finally:
            for write in group:
                write.done = True


class _Write:
    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False

    def perform(self, connection: Connection) -> None:
        """Do the work so that it can fail alone. A fault of the database fails the group."""
        try:
            with connection.begin_nested():
                self.value = self.work(connection)
        except DBAPIError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again in the thread that asked
            self.error = error
