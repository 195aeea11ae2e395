"""Run the diffusion transformer with true padding masks, and repeat no work at every step."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from sa_ray.engines.stable_audio.blocks import (
    FusedTransformer,
    Tools,
    is_fusable,
)
from sa_ray.engines.stable_audio.geometry import rows_padded
from sa_ray.engines.stable_audio.graphs import Graphs, Size
from sa_ray.engines.stable_audio.stand_ins import (
    BoundProjection,
    fold_silence,
    fold_silence_again,
    leave_out_padding,
)

CONTEXT = 3
"""Which input of the recorded function the context is; by far the largest."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Embedded inputs that steer the rows of a batch.

    ``context_kv``: the context's keys and values for each layer,
    ``[layers, rows, tokens, 2 or 3 times the width]``. ``embedding``: ``[rows, 768]``. ``local``:
    what each latent is made from, ``[rows, channels, length]``; None: silence in every row. With
    guidance these hold the rows twice, the positive side first and then the negative. They may have
    spare rows at the end. ``scale`` and ``projected`` (the share of the guidance that is projected,
    in [0, 1]): float32 ``[rows, 1, 1]``, or None without guidance.
    """

    context_kv: Any
    embedding: Any
    local: Any
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
            local=None if self.local is None else self.local[both],
            scale=None if self.scale is None else self.scale[rows],
            projected=None if self.projected is None else self.projected[rows],
            is_whole=False,
        )


class Denoiser:
    """Wraps the package's ``DiTWrapper``; latents are ``[rows, channels, length]``, float32.

    Changes the wrapper in place. Self-attention leaves padding out of the softmax; the package only
    zeroes the padded values, unless flash-attn is installed. The context's keys and values are
    projected once a batch. Silence as the local conditioning is embedded once; a batch with another
    has CUDA graphs of its own.

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
        self._projections = [BoundProjection(layer.cross_attn.to_kv) for layer in layers]
        self._has_local = False
        self._padded: tuple[Conditioning, tuple[Any, ...]] | None = None
        self._noted: Conditioning | None = None
        silences = []
        for layer in layers:
            leave_out_padding(layer.self_attn, tools.attend)
            silence = None
            if layer.to_local_embed is not None:
                self._has_local = True
                silence = fold_silence(layer.to_local_embed)
            silences.append(silence)
        self._fused: FusedTransformer | None = None
        if tools.operations is not None and is_fusable(self.transformer):
            self._fused = FusedTransformer(self.transformer, tools, silences)
            self.transformer.forward = self._fused

    def condition(
        self, context: Any, embedding: Any, local: Any, scale: Any, projected: Any
    ) -> Conditioning:
        """Project the context, which stays the same over the steps.

        ``context``: ``[rows * sides, tokens, 768]``; ``local``: ``[rows, channels, length]``, or
        None; the others as in ``Conditioning``.
        """
        embedded = self._wrapper.model.to_cond_embed(context.to(self.dtype))
        rows, tokens, _ = embedded.shape
        sides = 1 if scale is None else 2
        room = self._rows_for(rows, sides)
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
        if local is not None:
            local = local.to(self.dtype).repeat(sides, 1, 1)
            local = functional.pad(local, (0, 0, 0, 0, 0, room - rows))
        return Conditioning(context_kv, embedding, local, scale, projected)

    def forget(self) -> None:
        """Drop the last batch's conditioning, and the memory it holds."""
        self._padded = self._noted = None
        self._graphs.forget()
        for projection in self._projections:
            projection.bound = None
        if self._fused is not None:
            self._fused.contexts = None

    def fold_again(self) -> None:
        """Compute again, in place, what was computed once of weights that have changed."""
        for layer in self.transformer.layers:
            if layer.to_local_embed is not None:
                fold_silence_again(layer.to_local_embed)

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
        room = self._rows_for(rows, conditioning.sides)
        size: Size = (room, length)
        if conditioning.local is not None:
            size = *size, conditioning.local.shape[1]
        if conditioning is not self._noted and conditioning.is_whole:
            self._graphs.note("denoise", size)
        self._noted = conditioning
        constant = self._with_room(conditioning, room)
        extra = room - rows
        x = functional.pad(x, (0, 0, 0, 0, 0, extra))
        t = functional.pad(t, (0, extra), value=1.0)
        valid = functional.pad(valid, (0, 0, 0, extra), value=True)
        return self._graphs.run("denoise", size, self._forward, x, t, valid, *constant)[:rows]

    def _with_room(self, conditioning: Conditioning, room: int) -> tuple[Any, ...]:
        """Return the inputs that ``conditioning`` fixes for every step, with ``room`` rows."""
        by_row = [conditioning.embedding]
        if conditioning.local is not None:
            by_row.append(conditioning.local)
        extra = room - len(conditioning.embedding)
        if not extra:
            return conditioning.context_kv, *by_row
        if self._padded is None or self._padded[0] is not conditioning:
            # Once a batch: the graph copies an input only if it is another tensor than last time.
            context_kv = functional.pad(conditioning.context_kv, (0, 0, 0, 0, 0, extra))
            padded = [functional.pad(one, (0, 0) * (one.dim() - 1) + (0, extra)) for one in by_row]
            self._padded = conditioning, (context_kv, *padded)
        return self._padded[1]

    def _forward(
        self, x: Any, t: Any, valid: Any, context_kv: Any, embedding: Any, local: Any = None
    ) -> Any:
        for projection, bound in zip(self._projections, context_kv, strict=True):
            projection.bound = bound
        unused_context = None
        if self._fused is not None:
            self._fused.contexts = context_kv
        else:
            unused_context = embedding[:, None]
            if self._has_local and local is None:
                local = x.new_zeros(1, 0, x.shape[-1])  # no channels: silence
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
