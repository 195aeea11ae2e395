"""Tiny random checkpoints that the unmodified package loads: the real layout, a few MB."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from stable_audio_3.factory import create_diffusion_cond_from_config
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast, T5GemmaConfig, T5GemmaEncoderModel
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig

from sa_ray.catalogue import CATALOGUE, repo_id
from sa_ray.contracts import VariantName

TEXT_ENCODER = "t5gemma-b-b-ul2"
LATENT_CHANNELS = 16
PROMPT_TOKENS = 32


def make_cache(cache: Path, variants: tuple[VariantName, ...]) -> None:
    """Lay out ``cache`` as the Hugging Face Hub's, each variant at the catalogue's revision."""
    for variant in variants:
        revision = CATALOGUE[variant].revision
        repo = cache / f"models--{repo_id(variant).replace('/', '--')}"
        make_snapshot(repo / "snapshots" / revision, variant)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(revision)


def make_snapshot(folder: Path, variant: VariantName) -> None:
    """Write a checkpoint of ``variant``; its weights depend on nothing else."""
    torch.manual_seed(len(variant))
    folder.mkdir(parents=True)
    write_text_encoder(folder / TEXT_ENCODER, hidden=768, layers=1, heads=2, width=16, inner=32)
    config = model_config(variant)
    (folder / "model_config.json").write_text(json.dumps(config))
    config = json.loads(json.dumps(config))
    config["model"]["conditioning"]["configs"][0]["config"]["model_path"] = str(folder)
    model = create_diffusion_cond_from_config(config)
    randomise(model)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def randomise(model: Any) -> None:
    """Fill the branches that start at zero, and turn up what the prompt and the noise go through.

    As it is built the model is nearly the identity, and every clip would sound the same.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and parameter.numel() and not parameter.any():
            gain = 6.0 if "cross_attn" in name else 1.0
            torch.nn.init.normal_(parameter, std=gain / math.sqrt(parameter[0].numel()))
    loud = ["model.model.to_cond_embed.2.weight", "pretransform.model.decoder.layers.1.weight"]
    for name in loud:
        model.get_parameter(name).data.mul_(6)


def write_text_encoder(
    folder: Path, *, hidden: int, layers: int, heads: int, width: int, inner: int, vocab: int = 300
) -> None:
    """Write a random T5Gemma encoder and a byte-level tokenizer."""
    module = T5GemmaModuleConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width,
        intermediate_size=inner,
        vocab_size=vocab,
        query_pre_attn_scalar=width,
    )
    config = T5GemmaConfig(encoder=module, decoder=module, vocab_size=vocab)
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


def model_config(variant: VariantName) -> dict[str, Any]:
    """The ``model_config.json`` of ``variant`` with small sizes and the real length arithmetic."""
    medium = variant == "medium"
    coder = {
        "channels": 32,
        "c_mults": [2],
        "strides": [16],
        "latent_dim": LATENT_CHANNELS,
        "transformer_depths": [2],
        "dim_heads": 32,
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
        "dim": LATENT_CHANNELS,
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
        "latent_dim": LATENT_CHANNELS,
        "pretransform": {"type": "patched", "config": {"channels": 2, "patch_size": 256}},
    }
    prompt = {
        "max_length": PROMPT_TOKENS,
        "padding_mode": "learned",
        "repo_id": repo_id(variant),
        "subfolder": TEXT_ENCODER,
    }
    seconds = {"min_val": 0, "max_val": 384, "fourier_features_type": "expo"}
    transformer = {
        "io_channels": LATENT_CHANNELS,
        "embed_dim": 128,
        "depth": 2,
        "num_heads": 2,
        "cond_token_dim": 768,
        "global_cond_dim": 768,
        "local_add_cond_dim": LATENT_CHANNELS + 1,
        "global_cond_type": "adaLN",
        "timestep_features_type": "expo",
        "num_memory_tokens": 4,
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
            "io_channels": LATENT_CHANNELS,
            "pretransform": {
                "type": "autoencoder",
                "chunked": True,
                "iterate_batch": False,
                "config": autoencoder,
            },
            "conditioning": {
                "cond_dim": 768,
                "configs": [
                    {"id": "prompt", "type": "t5gemma", "config": prompt},
                    {"id": "seconds_total", "type": "number", "config": seconds},
                ],
            },
            "diffusion": diffusion,
        },
    }


def damaged(weights: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Checkpoints that must not load, each with what is wrong with it."""
    name = next(key for key in weights if key.endswith("to_qkv.weight"))
    yield "missing", {key: value for key, value in weights.items() if key != name}
    yield "unknown", weights | {"model.model.extra.weight": torch.ones(1)}
    yield "of another shape", weights | {name: weights[name][:-1].contiguous()}
