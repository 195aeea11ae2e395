"""Stand-ins for parts of the package's diffusion transformer: true masks, no work done twice."""

from functools import partial
from typing import Any

import torch

from sa_ray.engines.stable_audio.attention import Attend, Keys


class BoundProjection:
    """Stands in for a layer's context projection, whose input is the same at every step."""

    def __init__(self, linear: Any) -> None:
        self.project = linear.forward
        self.bound: Any = None
        linear.forward = self

    def __call__(self, context: Any) -> Any:
        return self.bound


def leave_out_padding(attention: Any, attend: Attend) -> None:
    """Have ``attention`` leave padding out of the softmax; the package only zeroes its values."""
    attention.apply_attn = partial(_attend, attend)


def fold_silence(to_local_embed: Any) -> Any:
    """Have ``to_local_embed`` take what has no channels for silence, which it embeds only now.

    Return what it makes of silence, ``[width]``.
    """
    embedded = to_local_embed(_silence(to_local_embed))
    to_local_embed.forward = partial(_embed, to_local_embed.forward, embedded)
    return embedded.flatten()


def fold_silence_again(to_local_embed: Any) -> None:
    """Embed silence by weights that have changed, in place: CUDA graphs have its address."""
    embed, embedded = to_local_embed.forward.args
    embedded.copy_(embed(_silence(to_local_embed)))


def _silence(to_local_embed: Any) -> Any:
    weight = to_local_embed[0].weight
    return torch.zeros(1, 1, weight.shape[1], dtype=weight.dtype, device=weight.device)


def _embed(embed: Any, silence: Any, local: Any) -> Any:
    return embed(local) if local.shape[-1] else silence.expand(*local.shape[:2], -1)


def _attend(
    attend: Attend, q: Any, k: Any, v: Any, *, padding_mask: Any = None, **_unused: Any
) -> Any:
    """Stand in for the package's ``apply_attn``, whose tensors are ``[rows, heads, tokens, n]``."""
    keys = None if padding_mask is None else Keys.of(padding_mask.sum(dim=1), q.shape[2])
    return attend(*(part.transpose(1, 2) for part in (q, k, v)), keys=keys).transpose(1, 2)
