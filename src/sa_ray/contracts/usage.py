"""Usage: what each key had made on each day, and the report of it."""

from datetime import date
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field

from sa_ray.contracts.names import VariantName
from sa_ray.contracts.record import Record

USAGE_COUNTS: Final = (
    "requests",
    "jobs",
    "clips",
    "audio_seconds",
    "gpu_seconds",
    "accepted_seconds",
)


class UsageCounts(Record):
    """Amounts to add up; one that is given back is negative."""

    requests: int = 0
    """Synchronous requests that were answered with audio."""
    jobs: int = 0
    """Jobs that were accepted."""
    clips: int = 0
    audio_seconds: float = 0.0
    """Of the clips: each answered, or stored by a job that succeeded."""
    gpu_seconds: float = 0.0
    """Engine seconds times the share of a GPU that the replica has; 0 without GPUs."""
    accepted_seconds: float = 0.0
    """Audio seconds that were asked for and not refused, failed or cancelled."""

    def plus(self, other: "UsageCounts") -> Self:
        sums = {name: getattr(self, name) + getattr(other, name) for name in USAGE_COUNTS}
        return self.model_copy(update=sums)


class UsageRow(UsageCounts):
    """What one key did with one variant on one day, or a part of that."""

    day: str
    """Of UTC, as ``2026-01-31``."""
    owner: str
    """Name of the key; empty: there were no keys."""
    variant: VariantName

    @property
    def place(self) -> tuple[str, str, VariantName]:
        return self.day, self.owner, self.variant


class Usage(BaseModel):
    requests: int = Field(description="Synchronous requests that were answered with audio.")
    jobs: int = Field(description="Jobs that were accepted.")
    clips: int = Field(description="Clips that were answered, or stored by jobs that succeeded.")
    audio_seconds: float = Field(description="Of these clips.")
    gpu_seconds: float = Field(
        description="Of all work, that for clips which nobody got included. 0 without GPUs."
    )


class DayUsage(Usage):
    """Usage of one key on one day."""

    day: date = Field(description="Of UTC.")
    key: str | None = Field(description="Name of the key; null: there were no keys.")
    models: dict[VariantName, Usage]


class UsageReport(BaseModel):
    """The answer to ``GET /v1/usage``."""

    model_config = ConfigDict(validate_by_name=True)

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    usage: list[DayUsage] = Field(description="By day and key; days without usage are left out.")
