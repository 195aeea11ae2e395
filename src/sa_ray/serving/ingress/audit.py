"""The audit log: who did what, and who was refused, a line of JSON each; never a key or prompt."""

import logging
import time
from collections.abc import Callable

from fastapi import Request

from sa_ray.serving.client_address import address_of
from sa_ray.serving.ingress.errors import request_ids
from sa_ray.telemetry import log_context

logger = logging.getLogger("sa_ray.audit")

MOST_REFUSED_PER_S = 20
"""Refusals a second that are logged: a flood of them must not fill the disk."""


def audit(http: Request, what: str, who: str, *, thing: str = "", outcome: str = "done") -> None:
    """Log that ``who`` (the name of a key; empty: anybody) did ``what`` with ``thing``, an id."""
    fields = {"who": who, "what": what, "id": thing, "outcome": outcome}
    address = address_of(http.scope)
    with log_context(**fields, address=address, **request_ids(http)):
        logger.info("%s %s", what, thing or http.scope["path"][:200])


class Refusals:
    """Logs refusals, a bounded number of them, and how many it left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._logged = 0
        self._left_out = 0

    def log(self, http: Request, who: str, code: str) -> None:
        now = self._clock()
        if now - self._since >= 1:
            self._tell()
            self._since, self._logged = now, 0
        if self._logged < MOST_REFUSED_PER_S:
            self._logged += 1
            audit(http, "refused", who, outcome=code)
        else:
            self._left_out += 1

    def _tell(self) -> None:
        if self._left_out:
            logger.warning("%d more refusals were not logged", self._left_out)
            self._left_out = 0
