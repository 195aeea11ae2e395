"""Batch limits that the ``user_config`` of a variant may change while its replicas run."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sa_ray.catalogue import VariantOverride, VariantSpec
from sa_ray.errors import ConfigurationError
from sa_ray.scheduling.costs import Calibration


class _UserConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    max_batch_rows: int | None = Field(default=None, ge=1)
    max_batch_seconds: float | None = Field(default=None, gt=0)


def default_limits(
    spec: VariantSpec, override: VariantOverride | None, calibration: Calibration | None
) -> tuple[int, float]:
    """Return the most rows and the most seconds of a batch that ``user_config`` says nothing of.

    What an operator set (``override``, which ``spec`` includes) holds; else what was measured.
    """
    rows, seconds = spec.max_batch_rows, spec.max_batch_seconds
    if calibration is None:
        return rows, seconds
    if override is None or override.max_batch_rows is None:
        rows = min(rows, calibration.max_rows)
    if override is None or override.max_batch_seconds is None:
        seconds = min(seconds, calibration.max_seconds or seconds)
    return rows, seconds


def batch_limits(
    user_config: Mapping[str, Any], spec: VariantSpec, default: tuple[int, float]
) -> tuple[int, float]:
    """Return the most rows and the most seconds of a batch: from ``user_config``, else ``default``.

    Rows are at most those of ``spec``, since the engine is loaded for so many. Raises
    ``ConfigurationError`` that names the key.
    """
    try:
        wanted = _UserConfig.model_validate(user_config)
    except ValidationError as error:
        [problem, *_] = error.errors()
        where = ".".join(map(str, problem["loc"]))
        raise ConfigurationError(f"{where}: {problem['msg']}", param=where) from None
    rows = wanted.max_batch_rows or default[0]
    if rows > spec.max_batch_rows:
        raise ConfigurationError(
            f"max_batch_rows: a replica was loaded for {spec.max_batch_rows} at most; raise it "
            "under variants in args instead"
        )
    return rows, wanted.max_batch_seconds or default[1]
