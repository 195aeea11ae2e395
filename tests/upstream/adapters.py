"""Adapters for the tiny checkpoints, made and written by the package itself."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stable_audio_3.models.lora import (
    LoRAParametrization,
    add_lora,
    get_lora_state_dict,
    save_lora_safetensors,
)

from sa_ray.contracts import Lora

RANK, ALPHA = 4, 6.0


def write_adapter(
    folder: Path,
    name: str,
    model: Any,
    *,
    kind: str = "lora",
    include: list[str] | None = None,
    exclude: list[str] | None = None,
) -> Path:
    """Write an adapter of ``model`` with random values, which ``name`` decides; spoils ``model``.

    ``include``, ``exclude``: parts of layers' names, as the package's training takes them.
    """
    parts = {"rank": RANK, "lora_alpha": ALPHA, "adapter_type": kind}
    config = {
        torch.nn.Linear: {"weight": partial(LoRAParametrization.from_linear, **parts)},
        torch.nn.Conv1d: {"weight": partial(LoRAParametrization.from_conv1d, **parts)},
    }
    state: dict[str, torch.Tensor] = {}
    for part in (model.model, model.conditioner):
        add_lora(part, config, include=include, exclude=exclude)
        state |= get_lora_state_dict(part)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    for key, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=generator)
        # Two thirds of what the weights are, and a tenth of their lengths.
        if key.endswith("lora_A"):
            state[key] = noise / tensor.shape[1] ** 0.5
        elif key.endswith("lora_B"):
            state[key] = 0.3 * noise
        else:
            state[key] = tensor * (1 + 0.1 * noise)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    said = {"rank": RANK, "alpha": ALPHA, "adapter_type": kind}
    save_lora_safetensors(state, said | {"include": include, "exclude": exclude}, file)
    return file


def asked(folder: Path, **strengths: float) -> tuple[Lora, ...]:
    """Return the adapters in ``folder`` of these names, each with its strength."""
    return tuple(
        Lora(name=name, strength=strength, sha256=digest_of(folder / f"{name}.safetensors"))
        for name, strength in strengths.items()
    )


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
