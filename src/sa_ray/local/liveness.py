"""Ask a service over HTTP whether it serves."""

import threading
import time
from typing import Self

import httpx

PERIOD_S = 1.0
TIMEOUT_S = 10.0

SILENT_S = 40.0
"""Longer than Serve takes to notice that its HTTP proxy has died, and to start another."""

SILENT_PROBES = 4
"""Least failures in a row: this process may have been late itself."""


class Liveness:
    """Asks in a thread of its own, from ``start`` to ``stop``.

    ``ready_url`` is asked until it answers 200 for the first time, from then on ``alive_url``.
    """

    def __init__(self, ready_url: str, alive_url: str) -> None:
        self._ready_url = ready_url
        self._alive_url = alive_url
        self._stopped = threading.Event()
        self._ready_at: float | None = None
        self._answered_at = 0.0
        self._failures = 0
        self._thread = threading.Thread(target=self._ask, daemon=True, name="liveness")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    @property
    def ready_for_s(self) -> float | None:
        """Seconds since the first answer; None before it."""
        return None if self._ready_at is None else time.monotonic() - self._ready_at

    @property
    def silent(self) -> bool:
        """Whether a service that was ready has not answered for ``SILENT_S``."""
        late = time.monotonic() - self._answered_at > SILENT_S
        return self._ready_at is not None and self._failures >= SILENT_PROBES and late

    def _ask(self) -> None:
        # Only whether it answers is asked, and at the address where it was started.
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=False) as client:  # noqa: S501
            while not self._stopped.wait(PERIOD_S):
                url = self._ready_url if self._ready_at is None else self._alive_url
                try:
                    answered = client.get(url).is_success
                except Exception:  # noqa: BLE001 - whatever it is, it was no answer
                    answered = False
                self._note(answered=answered)

    def _note(self, *, answered: bool) -> None:
        now = time.monotonic()
        if not answered:
            self._failures += 1
            return
        self._failures, self._answered_at = 0, now
        self._ready_at = self._ready_at or now
