"""Fair order of what waits in one replica: start-time fair queueing, as the queues of jobs have.

Goyal, Vin, Cheng 1996. The owners that wait share the replica by seconds of work.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """Place of a request of ``owner``: the seconds of service at which it starts and finishes."""

    owner: str
    start: float
    finish: float


class FairOrder:
    """Gives turns: what waits is served in the order of their starts, and of equal ones in that of
    arrival.

    An owner's turns go on where its work before them finishes, but begin no earlier than where
    service has come. So who was idle starts with all others, with no claim to what it did not use;
    and who gives up all that it waits for is charged for that alone which was served.
    """

    def __init__(self) -> None:
        self._position = 0.0
        self._waiting: Counter[str] = Counter()
        self._finish: dict[str, float] = {}
        self._served: dict[str, float] = {}
        """Where what was served of each owner finishes: what it is charged for in any case."""

    def turn(self, owner: str, seconds: float) -> Turn:
        """Return the turn of a request of ``owner`` that takes ``seconds``, more than 0."""
        start = max(self._position, self._finish.get(owner, 0.0))
        self._finish[owner] = start + seconds
        self._waiting[owner] += 1
        return Turn(owner, start, start + seconds)

    def served(self, turns: Sequence[Turn]) -> None:
        """Note that these are served next: the first, whose turn it is, and what comes along."""
        self._position = max(self._position, turns[0].start)
        for turn in turns:
            self._served[turn.owner] = max(turn.finish, self._served.get(turn.owner, 0.0))
            self._leave(turn.owner)
        # Of those behind, it makes no difference how far.
        self._finish = self._ahead(self._finish)
        self._served = self._ahead(self._served)

    def given_up(self, turn: Turn) -> None:
        """Note that nobody waits for this any more, which was not served."""
        self._leave(turn.owner)

    def _leave(self, owner: str) -> None:
        self._waiting[owner] -= 1
        if self._waiting[owner] == 0:
            del self._waiting[owner]
            self._finish[owner] = self._served.get(owner, 0.0)

    def _ahead(self, finishes: dict[str, float]) -> dict[str, float]:
        return {owner: finish for owner, finish in finishes.items() if finish > self._position}
