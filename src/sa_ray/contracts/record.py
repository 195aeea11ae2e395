"""Base of what travels between processes and is stored."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen. Fields that a later release has added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
