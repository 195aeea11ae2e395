"""Batch limits that the ``user_config`` of a variant may change while its replicas run."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sa_ray.catalogue import VariantSpec
from sa_ray.errors import ConfigurationError


class _UserConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    max_batch_rows: int | None = Field(default=None, ge=1)
    max_batch_seconds: float | None = Field(default=None, gt=0)


def batch_limits(user_config: Mapping[str, Any], spec: VariantSpec) -> tuple[int, float]:
    """Return the most rows and the most seconds of a batch: from ``user_config``, else ``spec``.

    Rows can only be lowered, since the engine is loaded for as many as ``spec`` says. Raises
    ``ConfigurationError`` that names the key.
    """
    try:
        wanted = _UserConfig.model_validate(user_config)
    except ValidationError as error:
        [problem, *_] = error.errors()
        where = ".".join(map(str, problem["loc"]))
        raise ConfigurationError(f"{where}: {problem['msg']}", param=where) from None
    rows = wanted.max_batch_rows or spec.max_batch_rows
    if rows > spec.max_batch_rows:
        raise ConfigurationError(
            f"max_batch_rows: a replica was loaded for {spec.max_batch_rows} at most; raise it "
            "under variants in args instead"
        )
    return rows, wanted.max_batch_seconds or spec.max_batch_seconds
