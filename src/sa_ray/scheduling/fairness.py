"""Fair order of what waits in one replica: start-time fair queueing, as the queues of jobs have.

Goyal, Vin, Cheng 1996. The owners that wait share the replica by seconds of work.
"""


class FairOrder:
    """Gives start tags: what waits is served in their order, and of equal ones in that of arrival.

    An owner's tags go on where its work before them finishes, but begin no earlier than where
    service has come. So who was idle starts with all others, with no claim to what it did not use.
    """

    def __init__(self) -> None:
        self._position = 0.0
        self._finish: dict[str, float] = {}

    def tag(self, owner: str, seconds: float) -> float:
        """Return the start tag of a request of ``owner`` that takes ``seconds``, more than 0."""
        start = max(self._position, self._finish.get(owner, 0.0))
        self._finish[owner] = start + seconds
        return start

    def served(self, tag: float) -> None:
        """Note that the request with this tag is served next."""
        self._position = max(self._position, tag)
        # Of those behind, it makes no difference how far.
        self._finish = {
            owner: finish for owner, finish in self._finish.items() if finish > self._position
        }
