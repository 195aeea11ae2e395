"""Tell of what becomes of jobs, once it is stored."""

from collections.abc import Callable, Sequence
from typing import Protocol

from sa_ray.contracts import Job


class JobObserver(Protocol):
    """Hears of jobs on the coordinator's event loop, and must not block it."""

    def submitted(self, job: Job) -> None:
        """A new job is stored."""
        ...

    def leased(self, job: Job) -> None:
        """An attempt at a job begins."""
        ...

    def changed(self, before: Job, after: Job) -> None:
        """A job was changed, other than by a lease."""
        ...


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[JobObserver]) -> None:
        self._observers = observers

    def submitted(self, job: Job) -> None:
        for one in self._observers:
            one.submitted(job)

    def leased(self, job: Job) -> None:
        for one in self._observers:
            one.leased(job)

    def change_by(self, transition: Callable[[Job, float], Job]) -> "Change":
        return Change(transition, self._changed)

    def _changed(self, before: Job, after: Job) -> None:
        for one in self._observers:
            one.changed(before, after)


class Change:
    """A transition that remembers what it was applied to, to tell of it once it is stored."""

    def __init__(
        self, transition: Callable[[Job, float], Job], tell: Callable[[Job, Job], object]
    ) -> None:
        self._transition = transition
        self._tell = tell
        self._before: Job | None = None

    def __call__(self, job: Job, now: float) -> Job:
        self._before = job
        return self._transition(job, now)

    def stored(self, job: Job) -> None:
        """Tell of the change, unless it changed nothing."""
        if self._before is not None and job is not self._before:
            self._tell(self._before, job)
