"""What ``user_config`` of a variant may say."""

from typing import Any

import pytest

from sa_ray.catalogue import CATALOGUE
from sa_ray.errors import ConfigurationError
from sa_ray.serving.variant.limits import batch_limits

SPEC = CATALOGUE["small-sfx"]


@pytest.mark.parametrize(
    ("user_config", "limits"),
    [
        ({}, (SPEC.max_batch_rows, SPEC.max_batch_seconds)),
        ({"max_batch_rows": 2}, (2, SPEC.max_batch_seconds)),
        ({"max_batch_seconds": 900.0}, (SPEC.max_batch_rows, 900.0)),
    ],
)
def test_what_is_not_said_is_as_the_settings_say(
    user_config: dict[str, Any], limits: tuple[int, float]
) -> None:
    assert batch_limits(user_config, SPEC) == limits


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
        batch_limits(user_config, SPEC)
