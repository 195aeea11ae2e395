"""The fair order of what waits in one replica."""

from collections import Counter

from sa_ray.scheduling.fairness import FairOrder


class Line:
    """Requests that wait, by owner."""

    def __init__(self) -> None:
        self._order = FairOrder()
        self._waiting: list[tuple[float, int, str]] = []
        self._arrived = 0

    def add(self, owner: str, count: int = 1, seconds: float = 1.0) -> None:
        for _ in range(count):
            self._arrived += 1
            self._waiting.append((self._order.tag(owner, seconds), self._arrived, owner))

    def served(self, count: int) -> list[str]:
        owners = []
        for _ in range(count):
            first = min(self._waiting)
            self._waiting.remove(first)
            self._order.served(first[0])
            owners.append(first[2])
        return owners


def test_one_request_waits_for_none_of_a_hundred() -> None:
    line = Line()
    line.add("many", 100)
    line.served(5)
    line.add("one")

    assert "one" in line.served(2)


def test_owners_share_by_seconds() -> None:
    line = Line()
    line.add("long", 10, seconds=4.0)
    line.add("short", 40)

    assert Counter(line.served(25)) == {"long": 5, "short": 20}


def test_neither_what_was_used_alone_nor_what_was_not_used_counts() -> None:
    line = Line()
    line.add("idle")
    line.add("alone", 50)
    line.served(51)
    line.add("idle", 10)
    line.add("alone", 10)

    served = Counter(line.served(10))
    assert abs(served["idle"] - served["alone"]) <= 2
