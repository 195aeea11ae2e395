"""What ``user_config`` of a variant may say."""

from typing import Any

import pytest

from sa_ray.catalogue import CATALOGUE, VariantOverride
from sa_ray.errors import ConfigurationError
from sa_ray.scheduling.costs import Calibration, Cost
from sa_ray.serving.variant.limits import batch_limits, default_limits

SPEC = CATALOGUE["small-sfx"]
CONFIGURED = SPEC.max_batch_rows, SPEC.max_batch_seconds
COST = Cost(batch=1, row=1, second=1, sampling=1, guidance=1)


@pytest.mark.parametrize(
    ("user_config", "limits"),
    [
        ({}, (3, 240.0)),
        ({"max_batch_rows": 8}, (8, 240.0)),
        ({"max_batch_seconds": 900.0}, (3, 900.0)),
    ],
)
def test_what_is_not_said_is_as_before(
    user_config: dict[str, Any], limits: tuple[int, float]
) -> None:
    assert batch_limits(user_config, SPEC, (3, 240.0)) == limits


@pytest.mark.parametrize(
    ("override", "rows", "seconds", "limits"),
    [
        (None, 4, 120.0, (4, 120.0)),
        (None, 1, None, (1, SPEC.max_batch_seconds)),
        (None, 64, 9000.0, CONFIGURED),
        (VariantOverride(cpu=2), 4, 120.0, (4, 120.0)),
        (VariantOverride(max_batch_rows=6), 4, 120.0, (6, 120.0)),
        (VariantOverride(max_batch_seconds=600), 4, 120.0, (4, 600.0)),
    ],
)
def test_what_was_measured_holds_where_an_operator_said_nothing(
    override: VariantOverride | None, rows: int, seconds: float | None, limits: tuple[int, float]
) -> None:
    spec = override.applied_to(SPEC) if override else SPEC
    measured = Calibration(cost=COST, max_rows=rows, max_seconds=seconds)

    assert default_limits(spec, override, measured) == limits
    assert default_limits(spec, override, None) == (spec.max_batch_rows, spec.max_batch_seconds)


@pytest.mark.parametrize(
    "user_config",
    [
        {"max_batch_rows": 0},
        {"max_batch_rows": SPEC.max_batch_rows + 1},
        {"max_batch_seconds": -1},
        {"max_batch_row": 4},
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(user_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(user_config))):
        batch_limits(user_config, SPEC, CONFIGURED)
