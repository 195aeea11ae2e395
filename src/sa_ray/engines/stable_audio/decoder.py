"""Decode latents to audio: only those needed, in chunks, to the same samples in any batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn import functional

from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.coder_blocks import speed_up
from sa_ray.engines.stable_audio.geometry import CHUNK, Chunk, chunk_groups
from sa_ray.engines.stable_audio.graphs import Graphs, Size
from sa_ray.engines.stable_audio.limiter import limited
from sa_ray.engines.stable_audio.transfers import to_host

NOISE_PERIOD: Final = 128
"""Latents after which the decoder's noise repeats."""

BOTTLENECK_NOISE: Final = 1e-3
"""Relative noise that the package's bottleneck adds at inference (``models/bottleneck.py``)."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Latents of one clip and how to decode them.

    ``latents``: float32 ``[channels, length]``, of which the first ``decoded`` are decoded to
    ``samples`` samples.
    """

    latents: Any
    decoded: int
    samples: int
    whole: bool
    """Decode in one piece, at the cost of memory."""
    limit: bool = True
    """Lower what passes full scale; else it is cut off there."""


class Decoder:
    """Wraps the package's ``AutoencoderPretransform``.

    The package's decoder adds noise to its input and its new tokens, and draws it again for each
    call. Here both noises are drawn once, from a fixed seed, and belong to the position in the
    clip. The decoder still meets the noise that it was trained with, and a clip depends on its
    latents alone.

    ``margin``: latents on each side of a chunk's kept part. ``pad_shapes``: decode at a few lengths
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
        self.dtype, self.device = parameter.dtype, parameter.device
        generator = torch.Generator().manual_seed(0)
        layers = self._autoencoder.decoder.layers
        self._blocks = [layer for layer in layers if hasattr(layer, "mask_noise")]
        self._token_noise = [
            self._draw(generator, NOISE_PERIOD, block.output_seg_size, block.in_channels)
            * block.mask_noise
            for block in self._blocks
        ]
        bottleneck = self._autoencoder.bottleneck
        channels = bottleneck.scaling_factor.shape[1]
        noise = BOTTLENECK_NOISE if bottleneck.noise_regularize else 0.0
        self._latent_noise = self._draw(generator, channels, NOISE_PERIOD) * noise
        bottleneck.noise_regularize = False
        for block in self._blocks:
            speed_up(block, tools)

    def __call__(self, clips: Sequence[Clip]) -> list[Any]:
        """Decode each clip to float32 ``[2, samples]`` in [-1, 1], on the host."""
        step = self._autoencoder.downsampling_ratio
        audio = [torch.empty(2, clip.decoded * step, device=self.device) for clip in clips]
        sizes = [(clip.decoded, clip.decoded if clip.whole else CHUNK) for clip in clips]
        for size, group in chunk_groups(sizes, margin=self._margin, pad_shapes=self._pad_shapes):
            for row, (index, chunk) in zip(self._decode(clips, group, size), group, strict=False):
                begin, end = chunk.keep_start - chunk.start, chunk.keep_stop - chunk.start
                target = audio[index][:, chunk.keep_start * step : chunk.keep_stop * step]
                target.copy_(row[:, begin * step : end * step])
        cut = [whole[:, : clip.samples] for whole, clip in zip(audio, clips, strict=True)]
        return to_host(
            [
                limited(samples) if clip.limit else samples.clamp(-1, 1)
                for samples, clip in zip(cut, clips, strict=True)
            ]
        )

    def _decode(self, clips: Sequence[Clip], group: list[tuple[int, Chunk]], size: Size) -> Any:
        """Decode the chunks of ``group`` to ``[rows, 2, samples]``, valid until the next call."""
        rows, length = size
        if length <= CHUNK:  # longer are whole clips, each of its own length
            self._graphs.note("decode", size)
        latents, offsets = [], []
        for index, chunk in group:
            piece = clips[index].latents[:, chunk.start : chunk.start + length]
            latents.append(functional.pad(piece, (0, length - piece.shape[-1])))
            offsets.append(chunk.start)
        stacked = torch.stack(latents).to(self.dtype)
        positions = torch.tensor(offsets, device=self.device)[:, None]
        positions = (positions + torch.arange(length, device=self.device)) % NOISE_PERIOD
        stacked = functional.pad(stacked, (0, 0, 0, 0, 0, rows - len(group)))
        positions = functional.pad(positions, (0, 0, 0, rows - len(group)))
        return self._graphs.run("decode", size, self._forward, stacked, positions)

    def _forward(self, latents: Any, positions: Any) -> Any:
        latents = latents * self._pretransform.scale
        bottleneck = self._autoencoder.bottleneck
        noise = self._latent_noise[:, positions].transpose(0, 1)
        if hasattr(bottleneck, "running_std"):
            noise = noise * bottleneck.running_std
        x = bottleneck.decode(latents) + noise
        noises = iter(self._token_noise)
        for layer in self._autoencoder.decoder.layers:
            if layer in self._blocks:
                x = layer(x, override_new_tokens=next(noises)[positions].flatten(1, 2))
            else:
                x = layer(x)
        audio = self._autoencoder.pretransform.decode(x)
        if self._autoencoder.soft_clip:
            audio = torch.tanh(audio)
        return audio.float()

    def _draw(self, generator: Any, *shape: int) -> Any:
        return torch.randn(*shape, generator=generator).to(self.device, self.dtype)
