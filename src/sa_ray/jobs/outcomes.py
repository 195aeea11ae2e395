"""Outcomes of calls that went together, for those who wait for one each."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

R = TypeVar("R")


def hand_out(waiting: Sequence["asyncio.Future[R]"], outcomes: Sequence[R | Exception]) -> None:
    """Give each of ``waiting`` its result or error, in order; none to those who have gone."""
    for answer, outcome in zip(waiting, outcomes, strict=True):
        if answer.done():
            continue
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
