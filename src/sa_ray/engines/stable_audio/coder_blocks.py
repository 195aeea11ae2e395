"""Have the transformers of the package's autoencoder use our kernels."""

from functools import partial
from typing import Any

from sa_ray.engines.stable_audio.attention import Attend
from sa_ray.engines.stable_audio.blocks import FusedBlock, Tools, is_block_fusable


def speed_up(block: Any, tools: Tools) -> None:
    """Have the layers of ``block``, a ``TransformerResamplingBlock``, use our kernels."""
    for layer in block.transformers:
        if tools.operations is not None and is_block_fusable(layer):
            layer.forward = FusedBlock(layer, tools)
        elif not layer.causal:
            layer.self_attn.apply_attn = partial(_attend, tools.attend)


def _attend(
    attend: Attend, q: Any, k: Any, v: Any, *, flash_attn_sliding_window: Any = None, **_unused: Any
) -> Any:
    """Stand in for the package's ``apply_attn``, whose tensors are ``[rows, heads, tokens, n]``."""
    window = flash_attn_sliding_window and max(flash_attn_sliding_window)
    return attend(*(part.transpose(1, 2) for part in (q, k, v)), window=window).transpose(1, 2)
