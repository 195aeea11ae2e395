"""Run the diffusion transformer with true padding masks, and repeat no work at every step."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from sa_ray.engines.stable_audio.attention import Attend, Keys
from sa_ray.engines.stable_audio.blocks import (
    FusedTransformer,
    Tools,
    is_fusable,
)
from sa_ray.engines.stable_audio.geometry import rows_padded
from sa_ray.engines.stable_audio.graphs import Graphs

CONTEXT = 3
"""Which input of the recorded function the context is; by far the largest."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Embedded inputs that steer the rows of a batch.

    ``context_kv``: the context's keys and values for each layer,
    ``[layers, rows, tokens, 2 or 3 times the width]``. ``embedding``: ``[rows, 768]``. With
    guidance both hold the rows twice, the positive side first and then the negative. Both may have
    spare rows at the end. ``scale`` and ``projected`` (the share of the guidance that is projected,
    in [0, 1]): float32 ``[rows, 1, 1]``, or None without guidance.
    """

    context_kv: Any
    embedding: Any
    scale: Any
    projected: Any
    is_whole: bool = True
    """No row of the batch was dropped. Otherwise its size is rare, and not worth a CUDA graph."""

    @property
    def sides(self) -> int:
        return 1 if self.scale is None else 2

    def select(self, rows: Any) -> "Conditioning":
        """Keep ``rows`` (indices) only."""
        both = rows if self.scale is None else torch.cat([rows, rows + len(self.scale)])
        return replace(
            self,
            context_kv=self.context_kv[:, both],
            embedding=self.embedding[both],
            scale=None if self.scale is None else self.scale[rows],
            projected=None if self.projected is None else self.projected[rows],
            is_whole=False,
        )


class _BoundProjection:
    """Stands in for a layer's context projection, whose input is the same at every step."""

    def __init__(self, linear: Any) -> None:
        self.project = linear.forward
        self.bound: Any = None
        linear.forward = self

    def __call__(self, context: Any) -> Any:
        return self.bound


class Denoiser:
    """Wraps the package's ``DiTWrapper``; latents are ``[rows, channels, length]``, float32.

    Changes the wrapper in place. Self-attention leaves padding out of the softmax; the package only
    zeroes the padded values, unless flash-attn is installed. The context's keys and values are
    projected once a batch. The local conditioning, silence for every row, is embedded once.

    ``pad_rows_to``: pad batches to a power of two, or to this many rows if that is less, so that
    few CUDA graphs serve them all; None: do not pad.
    """

    def __init__(
        self,
        wrapper: Any,
        graphs: Graphs,
        tools: Tools,
        *,
        pad_rows_to: int | None,
    ) -> None:
        self._wrapper = wrapper
        self._graphs = graphs
        self._pad_rows_to = pad_rows_to
        self.transformer = wrapper.model.transformer
        parameter = next(wrapper.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        layers = self.transformer.layers
        self._projections = [_BoundProjection(layer.cross_attn.to_kv) for layer in layers]
        self._local_channels = 0
        self._padded: tuple[Conditioning, Any, Any] | None = None
        self._noted: Conditioning | None = None
        silences = []
        for layer in layers:
            layer.self_attn.apply_attn = partial(_attend, tools.attend)
            silence = None
            if layer.to_local_embed is not None:
                self._local_channels = layer.to_local_embed[0].in_features
                silence = _fix_silent_local(layer.to_local_embed)
            silences.append(silence)
        self._fused: FusedTransformer | None = None
        if tools.operations is not None and is_fusable(self.transformer):
            self._fused = FusedTransformer(self.transformer, tools, silences)
            self.transformer.forward = self._fused

    def condition(self, context: Any, embedding: Any, scale: Any, projected: Any) -> Conditioning:
        """Project the context, which stays the same over the steps.

        ``context``: ``[rows * sides, tokens, 768]``; the others as in ``Conditioning``.
        """
        embedded = self._wrapper.model.to_cond_embed(context.to(self.dtype))
        rows, tokens, _ = embedded.shape
        room = self._rows_for(rows, 1 if scale is None else 2)
        width = self.transformer.layers[0].cross_attn.to_kv.out_features
        shape = len(self._projections), room, tokens, width
        # Made where the graph reads it: by far the largest tensor of a batch.
        context_kv = self._graphs.place("denoise", CONTEXT, shape, self.dtype, self.device)
        for layer, projection, place in zip(
            self.transformer.layers, self._projections, context_kv, strict=True
        ):
            place[:rows] = projection.project(embedded)
            place[rows:] = 0
            if self._fused is not None:
                self._fused.normalize_keys(layer.cross_attn, place)
        embedding = functional.pad(embedding.to(self.dtype), (0, 0, 0, room - rows))
        return Conditioning(context_kv, embedding, scale, projected)

    def forget(self) -> None:
        """Drop the last batch's conditioning, and the memory it holds."""
        self._padded = self._noted = None
        self._graphs.forget()
        for projection in self._projections:
            projection.bound = None
        if self._fused is not None:
            self._fused.contexts = None

    def velocity(self, x: Any, level: Any, valid: Any, conditioning: Conditioning) -> Any:
        """Predict the guided velocity (noise minus clean latents) at ``x``.

        ``level``: float32 ``[rows, 1, 1]``, noise levels in (0, 1]. ``valid``: bool
        ``[rows, length]``, False is padding. The result is valid until the next call.
        """
        if conditioning.scale is None:
            return self._unguided(x, level.flatten(), valid, conditioning)
        both = self._unguided(
            x.repeat(2, 1, 1), level.flatten().repeat(2), valid.repeat(2, 1), conditioning
        )
        positive, negative = (x - level * velocity for velocity in both.chunk(2))
        difference = positive - negative
        # Adaptive projected guidance, arXiv 2410.02416; blended as the package does.
        _, orthogonal = self._wrapper.model.apg_project(difference, positive, padding_mask=valid)
        projected = conditioning.projected
        guidance = projected * orthogonal + (1 - projected) * difference
        return (x - positive - (conditioning.scale - 1) * guidance) / level

    def _rows_for(self, rows: int, sides: int) -> int:
        if self._pad_rows_to is None:
            return rows
        return rows_padded(rows, self._pad_rows_to * sides)

    def _unguided(self, x: Any, t: Any, valid: Any, conditioning: Conditioning) -> Any:
        rows, _, length = x.shape
        size = self._rows_for(rows, conditioning.sides), length
        if conditioning is not self._noted and conditioning.is_whole:
            self._graphs.note("denoise", size)
        self._noted = conditioning
        context_kv, embedding = self._with_room(conditioning, size[0])
        extra = size[0] - rows
        x = functional.pad(x, (0, 0, 0, 0, 0, extra))
        t = functional.pad(t, (0, extra), value=1.0)
        valid = functional.pad(valid, (0, 0, 0, extra), value=True)
        inputs = x, t, valid, context_kv, embedding
        return self._graphs.run("denoise", size, self._forward, *inputs)[:rows]

    def _with_room(self, conditioning: Conditioning, room: int) -> tuple[Any, Any]:
        """Return the context and the embedding of ``conditioning`` with ``room`` rows."""
        context_kv, embedding = conditioning.context_kv, conditioning.embedding
        extra = room - len(embedding)
        if not extra:
            return context_kv, embedding
        if self._padded is None or self._padded[0] is not conditioning:
            # Once a batch: the graph copies an input only if it is another tensor than last time.
            context_kv = functional.pad(context_kv, (0, 0, 0, 0, 0, extra))
            self._padded = conditioning, context_kv, functional.pad(embedding, (0, 0, 0, extra))
        _, context_kv, embedding = self._padded
        return context_kv, embedding

    def _forward(self, x: Any, t: Any, valid: Any, context_kv: Any, embedding: Any) -> Any:
        for projection, bound in zip(self._projections, context_kv, strict=True):
            projection.bound = bound
        unused_context = local = None
        if self._fused is not None:
            self._fused.contexts = context_kv
        else:
            unused_context = embedding[:, None]
            if self._local_channels:
                local = x.new_zeros(1, self._local_channels, x.shape[-1])
        velocity = self._wrapper(
            x,
            t,
            cross_attn_cond=unused_context,
            global_cond=embedding,
            local_add_cond=local,
            padding_mask=valid,
            use_checkpointing=False,
        )
        return velocity.float()


def _attend(
    attend: Attend, q: Any, k: Any, v: Any, *, padding_mask: Any = None, **_unused: Any
) -> Any:
    """Stand in for the package's ``apply_attn``, whose tensors are ``[rows, heads, tokens, n]``."""
    keys = None if padding_mask is None else Keys.of(padding_mask.sum(dim=1), q.shape[2])
    return attend(*(part.transpose(1, 2) for part in (q, k, v)), keys=keys).transpose(1, 2)


def _fix_silent_local(to_local_embed: Any) -> Any:
    """Have ``to_local_embed`` return what it makes of silence; return that, ``[width]``."""
    weight = to_local_embed[0].weight
    silence = torch.zeros(1, 1, weight.shape[1], dtype=weight.dtype, device=weight.device)
    embedded = to_local_embed(silence)
    to_local_embed.forward = partial(_expand_to, embedded)
    return embedded.flatten()


def _expand_to(embedded: Any, local: Any) -> Any:
    return embedded.expand(local.shape[0], local.shape[1], -1)
