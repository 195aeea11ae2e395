"""Share webhook calls out among hosts, so that a silent or slow receiver delays nobody else."""

from dataclasses import dataclass

FIRST_LIMIT = 8
"""Calls at once to a host of which nothing is known."""

MOST_CALLS = 64
"""Calls at once to a host that answers."""

STRANGERS_CALLS = 384
"""Calls at once to all hosts whose last call went unanswered, or that were never called. The rest
of the dispatcher's calls are for hosts that answer, however many silent ones somebody names."""

SOONEST_S = 1.0
LATEST_S = 30.0
LATEST_IN_SILENCE_S = 600.0
"""Bounds of the time for which a call is put off. The last is also how long after its recovery a
receiver may still wait for calls that were put off during its silence."""

KNOWN_HOSTS = 4096
"""Hosts remembered; beyond these, idle ones are forgotten."""


@dataclass(slots=True)
class _Host:
    running: int = 0
    answers: bool = False
    """Whether its last call was answered."""
    limit: int = FIRST_LIMIT
    seconds: float = 0.1
    """Typical duration of a call."""
    next_turn: float = 0.0
    """Time for which the next call that is put off is due."""


class WebhookHosts:
    """Counts the calls to each host and says which must wait. Times are in seconds.

    An answer, of whatever status, doubles the limit of its host up to ``MOST_CALLS``; silence sets
    it to one. Calls beyond the limit are spread over the time in which the host can take them.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._to_strangers = 0

    def begin(self, host: str, now: float) -> float | None:
        """Count a call to ``host`` as begun; or return for how long to put it off instead."""
        known = self._hosts.setdefault(host, _Host())
        has_room = known.answers or self._to_strangers < STRANGERS_CALLS
        if has_room and known.running < known.limit:
            known.running += 1
            self._to_strangers += not known.answers
            return None
        turn = max(known.next_turn, now + SOONEST_S)
        latest = LATEST_IN_SILENCE_S if known.limit == 1 else LATEST_S
        if turn > now + latest:
            turn = now + latest / 2
        known.next_turn = turn + known.seconds / known.limit
        return turn - now

    def end(self, host: str, now: float, seconds: float, *, answered: bool) -> None:
        """Note the end of a call that took ``seconds``."""
        known = self._hosts[host]
        known.running -= 1
        self._to_strangers -= not known.answers
        if known.answers != answered:
            known.answers = answered
            self._to_strangers += -known.running if answered else known.running
        known.seconds = (known.seconds + seconds) / 2
        if answered:
            if known.limit == 1:  # it is back: what was put off meanwhile keeps its turn
                known.next_turn = now
            known.limit = min(MOST_CALLS, 2 * known.limit)
        else:
            known.limit = 1
        if len(self._hosts) > KNOWN_HOSTS:
            self._hosts = {name: each for name, each in self._hosts.items() if each.running}
