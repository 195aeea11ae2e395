"""Many jobs submitted in one request."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sa_ray.contracts.generation import JobRequest
from sa_ray.contracts.views import ErrorResponse, JobAccepted

MAX_BATCH: Final = 1_000
"""Most jobs of one request."""


class BatchRequest(BaseModel):
    """The body of ``POST /jobs/batch``. What is no ``JobRequest`` is refused by itself."""

    model_config = ConfigDict(strict=True, extra="forbid")

    requests: list[Annotated[JobRequest | Any, Field(union_mode="left_to_right")]] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        description="Bodies of `POST /jobs`. One that is invalid stops none of the others.",
    )


class RefusedJob(ErrorResponse):
    """A request of a batch that made no job."""

    status_code: int = Field(description="Status of this error, had the request come alone.")
    retry_after: int | None = Field(description="Seconds until it is worth repeating, if it is.")


class BatchAccepted(BaseModel):
    """The answer to ``POST /jobs/batch``."""

    jobs: list[JobAccepted | RefusedJob] = Field(
        description="What became of each request, in their order."
    )
