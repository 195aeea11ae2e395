"""Encode audio to latents: in chunks, to the same latents in any batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from sa_ray.engines.port import Audio
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.coder_blocks import speed_up
from sa_ray.engines.stable_audio.geometry import CHUNK, Chunk, chunk_groups
from sa_ray.engines.stable_audio.graphs import Graphs, Size
from sa_ray.engines.stable_audio.transfers import to_device


class Encoder:
    """Wraps the package's ``AutoencoderPretransform``; the counterpart of ``Decoder``.

    Latents depend on their clip alone: no noise is added to the encoder's new tokens, as none is by
    the published models.

    ``margin``: latents on each side of a chunk's kept part. ``pad_shapes``: encode at a few lengths
    and batch sizes only, so that CUDA graphs serve them.
    """

    def __init__(
        self,
        pretransform: Any,
        graphs: Graphs,
        tools: Tools,
        *,
        margin: int,
        pad_shapes: bool,
    ) -> None:
        self._pretransform = pretransform
        self._autoencoder = pretransform.model
        self._graphs = graphs
        self._margin = margin
        self._pad_shapes = pad_shapes
        parameter = next(pretransform.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device
        for layer in self._autoencoder.encoder.layers:
            if hasattr(layer, "mask_noise"):
                layer.mask_noise = 0.0
                speed_up(layer, tools)

    def __call__(self, clips: Sequence[tuple[Audio, int]]) -> list[Any]:
        """Encode each clip, ``[2, samples]``, to float32 ``[channels, latents]`` on the device.

        Each comes with its number of latents; silence follows its samples up to their end.
        """
        audio = [self._on_device(samples, latents) for samples, latents in clips]
        encoded: list[Any] = [None] * len(clips)
        sizes = [(latents, CHUNK) for _, latents in clips]
        for size, group in chunk_groups(sizes, margin=self._margin, pad_shapes=self._pad_shapes):
            found = self._encode(audio, group, size)
            for row, (index, chunk) in zip(found, group, strict=False):
                if encoded[index] is None:
                    encoded[index] = row.new_empty(len(row), clips[index][1])
                begin, end = chunk.keep_start - chunk.start, chunk.keep_stop - chunk.start
                encoded[index][:, chunk.keep_start : chunk.keep_stop].copy_(row[:, begin:end])
        return encoded

    def _on_device(self, samples: Audio, latents: int) -> Any:
        audio = torch.tensor(samples)  # a copy: what comes from Ray is read-only
        silence = latents * self._autoencoder.downsampling_ratio - audio.shape[-1]
        return to_device(functional.pad(audio, (0, silence)).to(self._dtype), self._device)

    def _encode(self, audio: list[Any], group: list[tuple[int, Chunk]], size: Size) -> Any:
        """Encode the chunks of ``group`` to ``[rows, channels, length]``, valid until the next."""
        rows, length = size
        step = self._autoencoder.downsampling_ratio
        self._graphs.note("encode", size)
        pieces = []
        for index, chunk in group:
            piece = audio[index][:, chunk.start * step : (chunk.start + length) * step]
            pieces.append(functional.pad(piece, (0, length * step - piece.shape[-1])))
        stacked = functional.pad(torch.stack(pieces), (0, 0, 0, 0, 0, rows - len(group)))
        return self._graphs.run("encode", size, self._forward, stacked)

    def _forward(self, audio: Any) -> Any:
        return self._autoencoder.encode(audio).float() / self._pretransform.scale
