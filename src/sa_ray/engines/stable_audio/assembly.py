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
    coders = config["model"]["pretransform"]["config"]
    encoder, decoder = (coders[name]["config"] for name in ("encoder", "decoder"))
    ratio = autoencoder.downsampling_ratio
    align = encoder.get("chunk_size", 32) // encoder["strides"][0]
    reach = max(_reach(encoder, align), _reach(decoder, align))
    return Geometry(
        sample_rate=model.sample_rate,
        samples_per_latent=ratio,
        align=align,
        max_latents=config["sample_size"] // ratio,
        # One more latent for the convolution behind a decoder.
        margin=math.ceil((reach + 1) / align) * align,
    )


def _reach(coder: dict[str, Any], align: int) -> int:
    """Return the latents on either side that attention reaches in this half of the autoencoder."""
    # Chunked attention reaches its own and the shifted chunk; a window reaches on with each layer.
    window = coder.get("sliding_window")
    return align if window is None else max(window) * sum(coder["transformer_depths"])
