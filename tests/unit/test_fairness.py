"""The fair order of what waits in one replica."""

from collections import Counter

from sa_ray.scheduling.fairness import FairOrder, Turn


class Line:
    """Requests that wait, by owner."""

    def __init__(self) -> None:
        self._order = FairOrder()
        self._waiting: list[tuple[float, int, Turn]] = []
        self._arrived = 0

    def add(self, owner: str, count: int = 1, seconds: float = 1.0) -> None:
        for _ in range(count):
            self._arrived += 1
            turn = self._order.turn(owner, seconds)
            self._waiting.append((turn.start, self._arrived, turn))

    def give_up(self, owner: str) -> None:
        gone = [one for one in self._waiting if one[2].owner == owner]
        for one in gone:
            self._waiting.remove(one)
            self._order.given_up(one[2])

    def served(self, count: int) -> list[str]:
        owners = []
        for _ in range(count):
            first = min(self._waiting)
            self._waiting.remove(first)
            self._order.served([first[2]])
            owners.append(first[2].owner)
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


def test_what_was_given_up_is_not_charged_but_what_was_served_is() -> None:
    line = Line()
    line.add("busy", 200)
    line.add("patient", 5, seconds=4.0)
    line.served(5)
    for _ in range(100):
        line.add("patient", seconds=4.0)
        line.give_up("patient")
    line.add("patient", 10, seconds=4.0)

    assert Counter(line.served(25)) == {"busy": 20, "patient": 5}
