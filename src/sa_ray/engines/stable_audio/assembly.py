"""What an engine is put together from, for one model on one device."""

import math
from typing import Any

from stable_audio_3.models import transformer as package_transformer

from sa_ray.engines.stable_audio.attention import choose_attention
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.geometry import Geometry
from sa_ray.engines.stable_audio.kernels import choose_operations


def choose_tools(model: Any) -> Tools:
    """Return what is right and fastest for ``model`` on its device."""
    attention = model.model.model.transformer.layers[0].self_attn
    parameter = next(model.model.parameters())
    attend = choose_attention(
        heads=attention.num_heads,
        width=attention.dim_heads,
        dtype=parameter.dtype,
        device=parameter.device,
    )
    return Tools(attend, choose_operations(parameter.device))


def keep_to_torch_attention() -> None:
    """Keep the package from attention kernels that wait for the host or compile for each length.

    With flash-attn installed it packs rows, whose lengths it reads on the host: no CUDA graph can
    be recorded. Compiling its sliding-window attention takes seconds for each new length; without a
    compiler it silently runs 30 times slower.
    """
    package_transformer.flex_attention_compiled = None
    package_transformer.flash_attn_varlen_func = None
    package_transformer.index_first_axis = None


def geometry_of(model: Any, config: dict[str, Any]) -> Geometry:
    """Return the sizes of ``model``, the package's wrapper, built from ``config``."""
    autoencoder = model.pretransform.model
    decoder = config["model"]["pretransform"]["config"]["decoder"]["config"]
    ratio = autoencoder.downsampling_ratio
    encoder = config["model"]["pretransform"]["config"]["encoder"]["config"]
    align = encoder.get("chunk_size", 32) // encoder["strides"][0]
    window = decoder.get("sliding_window")
    # Chunked attention reaches its own and the shifted chunk; a window reaches on with each layer.
    # One more latent for the convolution behind them.
    reach = align if window is None else max(window) * sum(decoder["transformer_depths"])
    return Geometry(
        sample_rate=model.sample_rate,
        samples_per_latent=ratio,
        align=align,
        max_latents=config["sample_size"] // ratio,
        margin=math.ceil((reach + 1) / align) * align,
    )
