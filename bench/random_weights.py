"""Random weights in the layout and the sizes of Stable Audio 3: true speed, no gated file."""

import json
import math
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from stable_audio_3.factory import create_diffusion_cond_from_config
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast, T5GemmaConfig, T5GemmaEncoderModel
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import VariantName
from sa_ray.engines.stable_audio.weights import building_on

TEXT_ENCODER: Final = "t5gemma-b-b-ul2"

CONDITION_WIDTH: Final = 768
"""Width of the text encoder and of all conditioning; fixed in the package's conditioners."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Transformer, autoencoder (``coder_``) and text encoder (``text_``)."""

    width: int
    depth: int
    heads: int
    memory_tokens: int
    latent_channels: int
    prompt_tokens: int
    coder_channels: int
    coder_multiplier: int
    coder_depth: int
    coder_head_width: int
    text_layers: int
    text_heads: int
    text_head_width: int
    text_inner: int
    text_vocabulary: int


GAINS: Final = {
    "model.model.to_cond_embed.2.weight": 6,
    "pretransform.model.decoder.layers.1.weight": 6,
    "pretransform.model.encoder.layers.0.mapping.weight_g": 30,
    "pretransform.model.encoder.layers.2.weight": 200,
}
"""Factors on parameters by which prompt, noise and source come through in the audio."""


def real_sizes(variant: VariantName) -> Sizes:
    """Return the published sizes: 459.1M + 108M parameters, or 1,453.2M + 852M for medium."""
    medium = variant == "medium"
    return Sizes(
        width=1536 if medium else 1024,
        depth=24 if medium else 20,
        heads=24 if medium else 16,
        memory_tokens=64,
        latent_channels=256,
        prompt_tokens=256,
        coder_channels=256 if medium else 128,
        coder_multiplier=6,
        coder_depth=12 if medium else 6,
        coder_head_width=64,
        text_layers=12,
        text_heads=12,
        text_head_width=64,
        text_inner=2048,
        text_vocabulary=256_000,
    )


TINY: Final = Sizes(
    width=128,
    depth=2,
    heads=2,
    memory_tokens=4,
    latent_channels=16,
    prompt_tokens=32,
    coder_channels=32,
    coder_multiplier=2,
    coder_depth=2,
    coder_head_width=32,
    text_layers=1,
    text_heads=2,
    text_head_width=16,
    text_inner=32,
    text_vocabulary=300,
)
"""Sizes of a few MB in all; strides, chunks and patches, and so all lengths, are the real ones."""


def random_model(
    variant: VariantName, device: Any, *, tiny: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Return the package's wrapper, in fp16 on CUDA, and its config."""
    sizes = TINY if tiny else real_sizes(variant)
    config = model_config(variant, sizes)
    with tempfile.TemporaryDirectory() as folder:
        write_text_encoder(Path(folder) / TEXT_ENCODER, sizes)
        config["model"]["conditioning"]["configs"][0]["config"]["model_path"] = folder
        with building_on(device):
            model = create_diffusion_cond_from_config(config)
    randomise(model)
    model.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        model.to(torch.float16)
    return model, config


def write_checkpoint(
    folder: Path, variant: VariantName, device: Any, *, tiny: bool = False
) -> None:
    """Write a checkpoint that the unmodified package loads; its weights depend on nothing else.

    ``device``: where it is built, which for the real sizes takes a GPU seconds, a CPU a minute.
    """
    sizes = TINY if tiny else real_sizes(variant)
    torch.manual_seed(len(variant))
    folder.mkdir(parents=True)
    write_text_encoder(folder / TEXT_ENCODER, sizes)
    config = model_config(variant, sizes)
    (folder / "model_config.json").write_text(json.dumps(config))
    config = deepcopy(config)
    config["model"]["conditioning"]["configs"][0]["config"]["model_path"] = str(folder)
    with building_on(device):
        model = create_diffusion_cond_from_config(config)
    randomise(model)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def randomise(model: Any) -> None:
    """Fill the branches that start at zero, and amplify the paths of prompt, noise and source.

    A freshly built model is nearly the identity, and every clip would sound the same.
    """
    loud = ("cross_attn", "to_local_embed")
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and parameter.numel() and not parameter.any():
            gain = 6.0 if any(part in name for part in loud) else 1.0
            torch.nn.init.normal_(parameter, std=gain / math.sqrt(parameter[0].numel()))
    for name, gain in GAINS.items():
        model.get_parameter(name).data.mul_(gain)


def write_text_encoder(folder: Path, sizes: Sizes) -> None:
    """Write a random T5Gemma encoder and a byte-level tokenizer."""
    module = T5GemmaModuleConfig(
        hidden_size=CONDITION_WIDTH,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        num_key_value_heads=sizes.text_heads,
        head_dim=sizes.text_head_width,
        intermediate_size=sizes.text_inner,
        vocab_size=sizes.text_vocabulary,
        query_pre_attn_scalar=sizes.text_head_width,
    )
    config = T5GemmaConfig(encoder=module, decoder=module, vocab_size=sizes.text_vocabulary)
    config.is_encoder_decoder = False
    T5GemmaEncoderModel(config).to(torch.bfloat16).save_pretrained(folder)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(
        models.BPE(
            {token: index for index, token in enumerate(tokens)},
            [],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.ByteFallback()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="right",
    ).save_pretrained(folder)


def model_config(variant: VariantName, sizes: Sizes) -> dict[str, Any]:
    """The ``model_config.json`` of ``variant``: its kind and length arithmetic, in ``sizes``."""
    medium = variant == "medium"
    coder = {
        "channels": sizes.coder_channels,
        "c_mults": [sizes.coder_multiplier],
        "strides": [16],
        "latent_dim": sizes.latent_channels,
        "transformer_depths": [sizes.coder_depth],
        "dim_heads": sizes.coder_head_width,
        "differential": True,
        "dyt": True,
        "variable_stride": True,
        "chunk_size": 32,
        **({"sliding_window": [1, 1]} if medium else {"chunk_midpoint_shift": True}),
    }
    encoder = coder | {"in_channels": 512, "conv_mapping": False, "mask_noise": 0.0}
    decoder = coder | {
        "out_channels": 512,
        "conv_mapping": True,
        "mask_noise": 0.01,
        "sinusoidal_blocks": [0],
    }
    bottleneck = {
        "auto_scale": True,
        "dim": sizes.latent_channels,
        "freeze": True,
        "noise_augment_dim": 0,
        "noise_regularize": True,
    }
    autoencoder = {
        "bottleneck": {"type": "softnorm", "config": bottleneck},
        "encoder": {"type": "taae_v2", "config": encoder},
        "decoder": {"type": "taae_v2", "config": decoder},
        "downsampling_ratio": 4096,
        "io_channels": 2,
        "latent_dim": sizes.latent_channels,
        "pretransform": {"type": "patched", "config": {"channels": 2, "patch_size": 256}},
    }
    prompt = {
        "max_length": sizes.prompt_tokens,
        "padding_mode": "learned",
        "repo_id": CATALOGUE[variant].repository,
        "subfolder": TEXT_ENCODER,
    }
    seconds = {"min_val": 0, "max_val": 384, "fourier_features_type": "expo"}
    transformer = {
        "io_channels": sizes.latent_channels,
        "embed_dim": sizes.width,
        "depth": sizes.depth,
        "num_heads": sizes.heads,
        "cond_token_dim": CONDITION_WIDTH,
        "global_cond_dim": CONDITION_WIDTH,
        "local_add_cond_dim": sizes.latent_channels + 1,
        "global_cond_type": "adaLN",
        "timestep_features_type": "expo",
        "num_memory_tokens": sizes.memory_tokens,
        "attn_kwargs": {"qk_norm": "rms", "differential": medium},
        "norm_type": "rms_norm",
        "norm_kwargs": {"force_fp32": True},
        "ff_kwargs": {"mult": 4.0},
    }
    diffusion = {
        "type": "dit",
        "diffusion_objective": "rf_denoiser",
        "cross_attention_cond_ids": ["prompt", "seconds_total"],
        "global_cond_ids": ["seconds_total"],
        "local_add_cond_ids": ["inpaint_mask", "inpaint_masked_input"],
        "mask_padding_attention": True,
        "use_effective_length_for_schedule": True,
        "distribution_shift_options": {"type": "full", "min_length": 256, "max_length": 4096},
        "config": transformer,
    }
    return {
        "model_type": "diffusion_cond_inpaint",
        "sample_size": 16_777_216 if medium else 5_292_032,
        "sample_rate": 44_100,
        "audio_channels": 2,
        "model": {
            "io_channels": sizes.latent_channels,
            "pretransform": {
                "type": "autoencoder",
                "chunked": True,
                "iterate_batch": False,
                "config": autoencoder,
            },
            "conditioning": {
                "cond_dim": CONDITION_WIDTH,
                "configs": [
                    {"id": "prompt", "type": "t5gemma", "config": prompt},
                    {"id": "seconds_total", "type": "number", "config": seconds},
                ],
            },
            "diffusion": diffusion,
        },
    }
