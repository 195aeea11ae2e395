"""Usage: what each key had made on each day."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from sa_ray.contracts import DayUsage, Usage, UsageReport, UsageRow
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

_TOLD: Final = tuple(Usage.model_fields)


@router.get(
    "/v1/usage",
    response_model=UsageReport,
    responses=responses(InvalidRequestError, NotFoundError, UnavailableError),
)
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
) -> Response:
    """Usage by key and day: one's own, or that of all keys for `admin`."""
    last = last or datetime.now(UTC).date()
    if first is None:
        first = max(EARLIEST, date.fromordinal(max(1, last.toordinal() - DEFAULT_DAYS + 1)))
    _check_days(first, last)
    owner = _owner(caller_of(http), key)
    rows = await services.jobs.usage(first.isoformat(), last.isoformat(), owner)
    return await asyncio.to_thread(_answer, first, last, rows)


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


def _answer(first: date, last: date, rows: Iterable[UsageRow]) -> Response:
    """Sum the rows up and write the report down: seconds of work, for many keys and days."""
    report = UsageReport(first=first, last=last, usage=_by_day(rows))
    return Response(report.model_dump_json(by_alias=True), media_type="application/json")


def _by_day(rows: Iterable[UsageRow]) -> list[DayUsage]:
    report = []
    for (day, owner), group in groupby(rows, key=lambda row: (row.day, row.owner)):
        models = {row.variant: {name: getattr(row, name) for name in _TOLD} for row in group}
        sums = {name: sum(counts[name] for counts in models.values()) for name in _TOLD}
        whole = {"day": day, "key": owner or None, "models": models, **sums}
        report.append(DayUsage.model_validate(whole))
    return report
