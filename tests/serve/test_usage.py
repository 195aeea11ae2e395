"""The report of usage."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.service import Service


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def of_medium(service: Service, since: str) -> dict[str, float]:
    report = service.http.get("/v1/usage", params={"from": since, "key": ""})
    assert report.status_code == 200, report.text
    totals: dict[str, float] = {}
    for entry in report.json()["usage"]:
        assert entry["key"] is None
        for name, count in entry["models"].get("medium", {}).items():
            totals[name] = totals.get(name, 0) + count
    return totals


def test_what_was_made_without_a_key_is_reported(service: Service) -> None:
    since = today()
    before = of_medium(service, since)
    assert service.generate(model="medium", duration=1, n=2).status_code == 200
    service.wait_for(service.submit(model="medium", duration=0.5), "succeeded")
    wanted = {"requests": 1, "jobs": 1, "clips": 3, "audio_seconds": 2.5}

    def counted() -> bool:
        now = of_medium(service, since)
        return all(now.get(name, 0) - before.get(name, 0) >= more for name, more in wanted.items())

    service.until(counted)


def test_the_last_thirty_days_are_reported_unless_others_are_named(service: Service) -> None:
    report = service.http.get("/v1/usage").json()

    first, last = (datetime.fromisoformat(report[name]).date() for name in ("from", "to"))
    assert last - first == timedelta(days=29)

    assert service.http.get("/v1/usage", params={"to": "2020-02-29"}).json() == {
        "from": "2020-01-31", "to": "2020-02-29", "usage": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"from": "2020-01-01", "to": "2026-02-01"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"to": "0001-01-01"}, "from"),
    ],
)
def test_days_that_cannot_be_reported_are_refused(
    service: Service, params: dict[str, Any], param: str
) -> None:
    refused = service.http.get("/v1/usage", params=params)

    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == param
