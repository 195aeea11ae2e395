"""The package's transformers in a fifth of the kernels: the same blocks over ``Operations``."""

from dataclasses import dataclass
from typing import Any

import torch

from sa_ray.engines.stable_audio.attention import Attend, Keys
from sa_ray.engines.stable_audio.operations import Modulation, Norm, Operations, norm_of

SCALE_SELF, SHIFT_SELF, GATE_SELF, SCALE_FF, SHIFT_FF, GATE_FF = range(6)
"""Sixths of a layer's modulation, in the package's order."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What blocks are computed with; ``operations`` None: as the package does."""

    attend: Attend
    operations: Operations | None = None

    @property
    def fused(self) -> Operations:
        """Return ``operations``, of which there must be some."""
        if self.operations is None:
            raise ValueError("blocks are fused with operations only")
        return self.operations


@dataclass(frozen=True, slots=True)
class _HeadNorms:
    query: Norm
    key: Norm


class FusedTransformer:
    """Stands in for the ``forward`` of the package's ``ContinuousTransformer``.

    ``contexts``: the keys and values of each layer's context, set before a call; keys are already
    normalized (``normalize_keys``). ``silences``: what each layer makes of silence as the local
    conditioning, ``[width]``, or None.
    """

    def __init__(self, transformer: Any, tools: Tools, silences: list[Any]) -> None:
        self._transformer = transformer
        self._tools = tools
        self._layers = list(transformer.layers)
        self._norms = [
            (_norm(layer.pre_norm), _norm(layer.cross_attend_norm), _norm(layer.ff_norm))
            for layer in self._layers
        ]
        self._silences = silences
        self._modulation = torch.stack([layer.to_scale_shift_gate for layer in self._layers])
        self.contexts: Any = None

    def __call__(
        self,
        x: Any,
        *,
        global_cond: Any,
        padding_mask: Any = None,
        local_add_cond: Any = None,
        **_unused: Any,
    ) -> Any:
        """Return what the package's does for ``x`` ``[rows, length, channels]``.

        ``local_add_cond``: ``[rows, length, channels]``; None: silence.
        """
        transformer = self._transformer
        memory = transformer.num_memory_tokens
        x = transformer.project_in(x.to(self._modulation.dtype))
        x = torch.cat([transformer.memory_tokens.expand(len(x), -1, -1), x], dim=1)
        angles = angles_of(transformer.rotary_pos_emb, x.shape[1])
        keys = None
        if padding_mask is not None:
            keys = Keys.of(padding_mask.sum(dim=1) + memory, x.shape[1])
        modulations = self._modulation[:, None] + transformer.global_cond_embedder(global_cond)
        x = self._blocks(x, modulations, angles, keys, local_add_cond)
        return transformer.project_out(x[:, memory:])

    def normalize_keys(self, attention: Any, context: Any) -> None:
        """Normalize, in place, the keys in ``context``, what ``to_kv`` projects, once a batch."""
        keys = 2 if attention.differential else 1
        parts = context.unflatten(-1, (keys + 1, attention.num_heads, attention.dim_heads))
        norm = _head_norms(attention).key
        normed = self._tools.fused.normalize_heads(parts, norm, keys)
        if normed is not parts:
            parts.copy_(normed)

    def _blocks(self, x: Any, modulations: Any, angles: Any, keys: Keys | None, heard: Any) -> Any:
        tools, operations = self._tools, self._tools.fused
        memory = self._transformer.num_memory_tokens
        first = Modulation(modulations[0], SCALE_SELF, SHIFT_SELF)
        normed = operations.normalize(x, self._norms[0][0], first)
        for place, layer in enumerate(self._layers):
            _, before_context, before_ff = self._norms[place]
            modulation = modulations[place]
            branch = self_attention(layer.self_attn, normed, angles, tools, keys=keys)
            x, normed = operations.add_normalize(
                x, branch, before_context, added=Modulation(modulation, gate=GATE_SELF)
            )
            branch = _cross_attention(layer.cross_attn, normed, self.contexts[place], tools)
            x, normed = operations.add_normalize(
                x,
                branch,
                before_ff,
                normalized=Modulation(modulation, SCALE_FF, SHIFT_FF),
                local=self._silences[place] if heard is None else layer.to_local_embed(heard),
                memory=memory,
            )
            branch, gate = _feed_forward(layer.ff, normed, tools), Modulation(modulation, gate=5)
            if place + 1 == len(self._layers):
                return operations.add(x, branch, gate, None, 0)
            following = Modulation(modulations[place + 1], SCALE_SELF, SHIFT_SELF)
            x, normed = operations.add_normalize(
                x, branch, self._norms[place + 1][0], added=gate, normalized=following
            )
        return x


class FusedBlock:
    """Stands in for the ``forward`` of one ``TransformerBlock`` of the autoencoder."""

    def __init__(self, layer: Any, tools: Tools) -> None:
        self._layer = layer
        self._tools = tools
        self._norms = _norm(layer.pre_norm), _norm(layer.ff_norm)

    def __call__(
        self, x: Any, *, self_attention_flash_sliding_window: Any = None, **_unused: Any
    ) -> Any:
        window = self_attention_flash_sliding_window and max(self_attention_flash_sliding_window)
        operations, layer = self._tools.fused, self._layer
        x = x.contiguous()
        normed = operations.normalize(x, self._norms[0], None)
        angles = angles_of(layer.rope, x.shape[1])
        branch = self_attention(layer.self_attn, normed, angles, self._tools, window=window)
        x, normed = operations.add_normalize(x, branch, self._norms[1])
        return operations.add(x, _feed_forward(layer.ff, normed, self._tools), None, None, 0)


def angles_of(rope: Any, tokens: int) -> tuple[Any, Any]:
    """Return the cosines and sines ``[tokens, n]`` by which the package turns ``2 * n`` values."""
    frequencies, _ = rope.forward_from_seq_len(tokens)
    half = frequencies[:, : frequencies.shape[-1] // 2].contiguous()
    return half.cos(), half.sin()


def self_attention(
    attention: Any,
    x: Any,
    angles: Any,
    tools: Tools,
    *,
    keys: Keys | None = None,
    window: int | None = None,
) -> Any:
    """Attend within ``x``, normed; differential attention subtracts a second one."""
    slots = 5 if attention.differential else 3
    parts = attention.to_qkv(x).unflatten(-1, (slots, attention.num_heads, attention.dim_heads))
    norms = _head_norms(attention)
    parts = tools.fused.rotate(parts, norms.query, norms.key, angles)
    q, k, v, *others = parts.unbind(2)
    out = tools.attend(q, k, v, keys=keys, window=window)
    if others:
        out = out - tools.attend(others[0], others[1], v, keys=keys, window=window)
    return attention.to_out(out.flatten(2))


def is_fusable(transformer: Any) -> bool:
    """Return whether ``FusedTransformer`` covers all that this ``ContinuousTransformer`` does."""
    return (
        not (transformer.use_sinusoidal_emb or transformer.use_abs_pos_emb)
        and transformer.rotary_pos_emb is not None
        and transformer.rotary_pos_emb.scale is None
        and transformer.cross_attn_rotary_pos_emb is None
        and transformer.num_memory_tokens > 0
        and transformer.global_cond_embedder is not None
        and transformer.sliding_window is None
        and all(
            layer.cross_attend
            and is_block_fusable(layer)
            and not layer.modular_local_embeds
            and _is_attention_fusable(layer.cross_attn)
            and norm_of(layer.cross_attend_norm) is not None
            for layer in transformer.layers
        )
    )


def is_block_fusable(layer: Any) -> bool:
    """Return whether ``FusedBlock`` covers all that this ``TransformerBlock`` does."""
    plain = torch.nn.Identity
    return (
        layer.conformer is None
        and isinstance(layer.self_attn_scale, plain)
        and isinstance(layer.ff_scale, plain)
        and norm_of(layer.pre_norm) is not None
        and norm_of(layer.ff_norm) is not None
        and _is_attention_fusable(layer.self_attn)
        and type(layer.ff.ff[0]).__name__ == "GLU"
        and not layer.ff.ff[0].use_conv
        and isinstance(layer.ff.ff[0].act, torch.nn.SiLU)
        and isinstance(layer.ff.ff[2], torch.nn.Linear)
    )


def _is_attention_fusable(attention: Any) -> bool:
    return (
        attention.qk_norm in ("rms", "dyt")
        and not attention.feat_scale
        and not attention.causal
        and attention.kv_heads == attention.num_heads
    )


def _cross_attention(attention: Any, x: Any, context: Any, tools: Tools) -> Any:
    heads, width = attention.num_heads, attention.dim_heads
    sets = 2 if attention.differential else 1
    queries = attention.to_q(x).unflatten(-1, (sets, heads, width))
    queries = tools.fused.normalize_heads(queries, _head_norms(attention).query, sets)
    *keys, values = context.unflatten(-1, (sets + 1, heads, width)).unbind(-3)
    outs = [
        tools.attend(query, key, values) for query, key in zip(queries.unbind(2), keys, strict=True)
    ]
    out = outs[0] - outs[1] if attention.differential else outs[0]
    return attention.to_out(out.flatten(2))


def _feed_forward(ff: Any, x: Any, tools: Tools) -> Any:
    return ff.ff[2](tools.fused.gated(ff.ff[0].proj(x)))


def _head_norms(attention: Any) -> _HeadNorms:
    return _HeadNorms(_norm(attention.q_norm), _norm(attention.k_norm))


def _norm(module: Any) -> Norm:
    norm = norm_of(module)
    if norm is None:
        raise TypeError(f"{type(module).__name__} is not fused")
    return norm
