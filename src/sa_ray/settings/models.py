"""Settings of models: the variants served, their engine, device and autoscaling."""

from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, model_validator

from sa_ray.catalogue import CATALOGUE, VariantOverride, VariantSpec
from sa_ray.contracts import EngineName, VariantName
from sa_ray.settings.group import SettingsGroup
from sa_ray.settings.values import SecretKey, Variant, Variants

Device = Literal["auto", "cuda", "mps", "cpu"]
Autoscaling = Literal["backlog", "requests"]


class ModelSettings(SettingsGroup):
    """Models to serve, and their engine, device, resources and autoscaling."""

    engine: Literal["auto"] | EngineName = Field(
        "auto",
        validation_alias=AliasChoices("STABLE_AUDIO_ENGINE"),
        description="`stable-audio-3`, `procedural`, or `auto`: the former if it is installed.",
    )
    default_model: Variant = Field(
        "small-sfx",
        validation_alias=AliasChoices("STABLE_AUDIO_DEFAULT_MODEL", "STABLE_AUDIO_MODEL"),
        description="Model used when a request names none.",
    )
    preload_models: Variants = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_PRELOAD_MODELS"),
        description="Comma-separated models to keep loaded (one replica at least). Unset: the "
        "default model. Empty: load each at its first request, release it when idle.",
    )
    device: Device = Field(
        "auto",
        validation_alias=AliasChoices("STABLE_AUDIO_DEVICE"),
        description="`cuda` asks Ray for GPUs, `cpu` and `mps` never do, `auto` does where the "
        "cluster has any.",
    )
    variants: dict[VariantName, VariantOverride] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("STABLE_AUDIO_VARIANTS"),
        description="Per-variant resources and batch limits (JSON in the environment, a mapping "
        "in `serve_config.yaml`): `gpu`, `cpu`, `max_replicas`, `max_batch_rows`, "
        "`max_batch_seconds`, `grace_seconds`, `target_wait`; and other weights: `repository` and "
        "`revision` on the Hugging Face Hub, `steps` and `cfg_scale` of requests that name none.",
    )
    autoscaling: Autoscaling = Field(
        "backlog",
        validation_alias=AliasChoices("STABLE_AUDIO_AUTOSCALING"),
        description="What the number of replicas follows: `backlog`, the seconds of work that "
        "wait, against the `target_wait` of the model; or `requests`, how many requests there "
        "are, as Ray Serve does by itself.",
    )

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if (
            self.engine == "stable-audio-3"
            and self.device in ("cpu", "mps")
            and "medium" in self.preloaded
        ):
            raise ValueError(
                f"medium needs CUDA, but STABLE_AUDIO_DEVICE is {self.device} and "
                "STABLE_AUDIO_PRELOAD_MODELS (or the default model) names it"
            )
        return self

    @property
    def preloaded(self) -> tuple[VariantName, ...]:
        return (self.default_model,) if self.preload_models is None else self.preload_models

    def spec(self, variant: VariantName) -> VariantSpec:
        """Return the catalogue's entry with the operator's overrides."""
        override = self.variants.get(variant)
        return override.applied_to(CATALOGUE[variant]) if override else CATALOGUE[variant]


class WeightSettings(SettingsGroup):
    """Source of the weights, and precision to compute in."""

    model_half: bool = Field(
        True,
        validation_alias=AliasChoices("STABLE_AUDIO_MODEL_HALF"),
        description="fp16 on CUDA, bfloat16 products on CPUs that have them; no effect elsewhere.",
    )
    hf_token: SecretKey = Field(
        None,
        validation_alias=AliasChoices("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        description="Hugging Face token with access to the gated weights.",
    )
    weights_dir: Path | None = Field(
        None,
        validation_alias=AliasChoices("STABLE_AUDIO_WEIGHTS_DIR"),
        description="Folder with one folder of weights for each model, on every node that serves "
        "it. Unset: the Hugging Face Hub and its cache.",
    )
