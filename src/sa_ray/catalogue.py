"""The variants of Stable Audio 3: names, aliases, caps, and the resources of their replicas."""

from types import MappingProxyType
from typing import Final, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sa_ray.contracts import VariantName

VARIANTS: Final[tuple[VariantName, ...]] = get_args(VariantName)

REPOSITORY_PATTERN: Final = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"
REVISION_PATTERN: Final = r"^[0-9a-f]{40}$"


class VariantSpec(BaseModel):
    """Weights, limits and resources of one variant, whichever engine renders it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str = Field(
        pattern=REPOSITORY_PATTERN, description="Hugging Face repository of the weights."
    )
    revision: str = Field(
        pattern=REVISION_PATTERN, description="Commit of that repository whose weights are loaded."
    )
    steps: int = Field(default=8, ge=1, description="Sampling steps of a request that names none.")
    cfg_scale: float = Field(
        default=1.0, ge=0, le=20, description="Guidance scale of a request that names none."
    )
    max_duration: float = Field(gt=0, description="Longest clip the model makes, seconds.")
    gpu: float = Field(gt=0, description="GPUs (or fraction of one) for a replica.")
    cpu: float = Field(
        ge=0, description="CPUs for a replica; rounded up, the threads of the real model."
    )
    max_replicas: int = Field(ge=1, description="Upper autoscaling bound.")
    max_batch_rows: int = Field(ge=1, description="Most clips in one batch.")
    max_batch_seconds: float = Field(
        gt=0, description="Most audio in one batch: rows times the longest row, seconds."
    )
    grace_seconds: float = Field(
        gt=0,
        description="How long at least a stopping replica may finish its work, seconds.",
    )
    target_wait: float = Field(
        gt=0, description="How long a request should wait for its batch at most, seconds."
    )

    @property
    def max_ongoing_requests(self) -> int:
        """Two batches: one in the engine, the next forming while it runs."""
        return 2 * self.max_batch_rows


CATALOGUE: Final = MappingProxyType[VariantName, VariantSpec](
    {
        "small-sfx": VariantSpec(
            repository="stabilityai/stable-audio-3-small-sfx",
            revision="ae12755283df9d62ca39a9b050a39a0b607b8c20",
            max_duration=120, gpu=0.25, cpu=0.5, max_replicas=4,
            max_batch_rows=8, max_batch_seconds=480, grace_seconds=60, target_wait=5,
        ),
        "small-music": VariantSpec(
            repository="stabilityai/stable-audio-3-small-music",
            revision="0fef1392cd842149a2b6d445e181c97608faac06",
            max_duration=120, gpu=0.25, cpu=0.5, max_replicas=4,
            max_batch_rows=8, max_batch_seconds=480, grace_seconds=60, target_wait=5,
        ),
        "medium": VariantSpec(
            repository="stabilityai/stable-audio-3-medium",
            revision="27b5a21b791b1b033d193a9e1e3ce78493f102f9",
            max_duration=380, gpu=1.0, cpu=0.5, max_replicas=2,
            max_batch_rows=4, max_batch_seconds=760, grace_seconds=180, target_wait=10,
        ),
    }
)  # fmt: skip


class VariantOverride(BaseModel):
    """Fields of a variant that an operator may set under ``variants:`` in ``serve_config.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str | None = Field(default=None, pattern=REPOSITORY_PATTERN)
    revision: str | None = Field(default=None, pattern=REVISION_PATTERN)
    steps: int | None = Field(default=None, ge=1)
    cfg_scale: float | None = Field(default=None, ge=0, le=20)
    gpu: float | None = Field(default=None, gt=0)
    cpu: float | None = Field(default=None, ge=0)
    max_replicas: int | None = Field(default=None, ge=1)
    max_batch_rows: int | None = Field(default=None, ge=1)
    max_batch_seconds: float | None = Field(default=None, gt=0)
    grace_seconds: float | None = Field(default=None, gt=0)
    target_wait: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check_revision(self) -> Self:
        if self.repository is not None and self.revision is None:
            raise ValueError(
                "repository needs a revision: the full commit, 40 hex digits, of the weights that "
                "you mean, so that all replicas load the same"
            )
        return self

    def applied_to(self, spec: VariantSpec) -> VariantSpec:
        return spec.model_copy(update=self.model_dump(exclude_none=True))


def aliases(variant: VariantName) -> tuple[str, ...]:
    return f"stable-audio-3-{variant}", CATALOGUE[variant].repository


_BY_ALIAS: Final[dict[str, VariantName]] = {
    alias: variant for variant in VARIANTS for alias in (variant, *aliases(variant))
}


def find_variant(name: str) -> VariantName | None:
    """Resolve a variant name or alias, in any case; None if there is no such model."""
    return _BY_ALIAS.get(name.strip().lower())
