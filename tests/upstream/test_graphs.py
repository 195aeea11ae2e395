"""What is recorded as a CUDA graph must never wait for the host; seen without a GPU, too.

Tensors on the ``meta`` device have no values, so that whatever reads one on the host raises, as
it would while a graph is being recorded.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.masking_utils

from sa_ray.contracts import VariantName
from sa_ray.engines.port import EngineOptions
from sa_ray.engines.stable_audio.engine import StableAudioEngine
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot

pytestmark = pytest.mark.upstream

ROWS, LENGTH = 2, 96


def test_the_meta_device_shows_a_wait_for_the_host() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.ones(3, device="meta").sum() > 2)


@pytest.mark.parametrize("variant", ["small-sfx", "medium"])
def test_recorded_functions_never_wait_for_the_host(
    hub_cache: Path, variant: VariantName, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What transformers finds out by itself while a CUDA graph is being recorded.
    monkeypatch.setattr(transformers.masking_utils, "is_tracing", lambda *_: True)
    options = EngineOptions(device="cpu")
    model, config = build_model(
        find_snapshot(variant, options), device=torch.device("cpu"), half=False
    )
    engine = StableAudioEngine(variant, model, config, pad_shapes=True)
    denoiser, decoder, encoder = engine._denoiser, engine._decoder, engine._edits._encoder
    prompts = engine._condition._prompts
    for module in (model.model, model.pretransform, model.conditioner.conditioners["prompt"].model):
        module.to("meta")
    for layer in denoiser.transformer.layers:
        folded = layer.to_local_embed.forward
        embed, silence = folded.args
        layer.to_local_embed.forward = partial(folded.func, embed, silence.to("meta"))
    decoder._token_noise = [noise.to("meta") for noise in decoder._token_noise]
    decoder._latent_noise = decoder._latent_noise.to("meta")
    channels = model.io_channels
    width = denoiser.transformer.layers[0].cross_attn.to_kv.out_features

    def hollow(*shape: int, dtype: Any = torch.float32) -> Any:
        return torch.empty(*shape, dtype=dtype, device="meta")

    inputs = (
        hollow(ROWS, channels, LENGTH),
        hollow(ROWS),
        hollow(ROWS, LENGTH, dtype=torch.bool),
        hollow(len(denoiser.transformer.layers), ROWS, 33, width),
        hollow(ROWS, 768),
    )
    with torch.inference_mode():
        velocity = denoiser._forward(*inputs)
        of_edit = denoiser._forward(*inputs, hollow(ROWS, channels + 1, LENGTH))
        latents = encoder._forward(hollow(ROWS, 2, LENGTH * 4096))
        audio = decoder._forward(
            hollow(ROWS, channels, LENGTH), hollow(ROWS, LENGTH, dtype=torch.long)
        )
        hidden = prompts._forward(
            hollow(ROWS, 16, dtype=torch.long), hollow(ROWS, 16, dtype=torch.bool)
        )

    assert velocity.shape == of_edit.shape == latents.shape == (ROWS, channels, LENGTH)
    assert audio.shape == (ROWS, 2, LENGTH * 4096)
    assert hidden.shape == (ROWS, 16, 768)
