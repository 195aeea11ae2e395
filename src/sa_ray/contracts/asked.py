"""Base of what clients write."""

from itertools import islice
from typing import Final

from pydantic import BaseModel, ConfigDict, model_validator

MAX_UNKNOWN_FIELDS: Final = 5
"""Unknown fields of an object that are looked at, so that a body full of them costs no more."""


class Asked(BaseModel):
    """Strict about types, and without unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_the_many_unknown(cls, data: object) -> object:
        """Drop unknown fields beyond the first few, which are enough to refuse the object."""
        if not isinstance(data, dict) or len(data) <= len(cls.model_fields):
            return data
        known = {name: data[name] for name in cls.model_fields if name in data}
        unknown = (name for name in data if name not in cls.model_fields)
        return known | {name: data[name] for name in islice(unknown, MAX_UNKNOWN_FIELDS)}
