"""Usage: what each key had made on each day."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query, Request

from sa_ray.contracts import DayUsage, Usage, UsageCounts, UsageReport, UsageRow
from sa_ray.contracts.access import Caller
from sa_ray.errors import InvalidRequestError, NotFoundError, UnavailableError
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.services import ServicesDep

router = APIRouter(tags=["system"])

DEFAULT_DAYS = 30
MAX_DAYS = 366

EARLIEST = date(2000, 1, 1)
"""So that the days before it need not be thought of."""


@router.get("/v1/usage", responses=responses(InvalidRequestError, NotFoundError, UnavailableError))
async def usage(
    services: ServicesDep,
    http: Request,
    first: Annotated[
        date | None,
        Query(alias="from", description=f"First day, of UTC; {DEFAULT_DAYS} days if not given."),
    ] = None,
    last: Annotated[
        date | None, Query(alias="to", description="Last day, of UTC; today if not given.")
    ] = None,
    key: Annotated[
        str | None,
        Query(max_length=64, description="Only this key; all that the caller may see otherwise."),
    ] = None,
) -> UsageReport:
    """Usage by key and day: one's own, or that of all keys for `admin`."""
    last = last or datetime.now(UTC).date()
    if first is None:
        first = max(EARLIEST, date.fromordinal(max(1, last.toordinal() - DEFAULT_DAYS + 1)))
    _check_days(first, last)
    owner = _owner(caller_of(http), key)
    rows = await services.jobs.usage(first.isoformat(), last.isoformat(), owner)
    return UsageReport(first=first, last=last, usage=_by_day(rows))


def _check_days(first: date, last: date) -> None:
    if not EARLIEST <= first <= last:
        raise InvalidRequestError(
            f"from ({first}) must not be after to ({last}), nor before {EARLIEST}.", param="from"
        )
    if (last - first).days >= MAX_DAYS:
        raise InvalidRequestError(
            f"from and to span {(last - first).days + 1} days; ask for at most {MAX_DAYS} at once.",
            param="from",
        )


def _owner(caller: Caller, key: str | None) -> str | None:
    """Return the key whose usage the caller gets; None: of all."""
    if caller.may("admin"):
        return key
    if not caller.name or key not in (None, caller.name):
        raise NotFoundError(
            "There is no such usage for you: leave `key` out, or give your own key's name.",
            param="key",
        )
    return caller.name


def _by_day(rows: Iterable[UsageRow]) -> list[DayUsage]:
    report = []
    for (day, owner), group in groupby(rows, key=lambda row: (row.day, row.owner)):
        parts = list(group)
        whole = UsageCounts()
        for part in parts:
            whole = whole.plus(part)
        report.append(
            DayUsage(
                day=date.fromisoformat(day),
                key=owner or None,
                models={part.variant: _told(part) for part in parts},
                **_told(whole).model_dump(),
            )
        )
    return report


def _told(counts: UsageCounts) -> Usage:
    return Usage.model_validate(counts.model_dump())
