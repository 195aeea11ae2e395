"""``StableAudioEngine``: batches on the ``stable-audio-3`` package, and what their rows yield."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.engines.port import (
    Audio,
    BatchOutcome,
    Cancelled,
    DeviceLostError,
    Generated,
    IsCancelled,
    OnStep,
)
from sa_ray.engines.stable_audio.assembly import (
    choose_tools,
    geometry_of,
    keep_to_torch_attention,
)
from sa_ray.engines.stable_audio.blocks import Tools
from sa_ray.engines.stable_audio.capture import CudaRecorder, Recorder
from sa_ray.engines.stable_audio.conditioning import PROMPT_LAYERS, Conditioner
from sa_ray.engines.stable_audio.decoder import Decoder
from sa_ray.engines.stable_audio.denoiser import Denoiser
from sa_ray.engines.stable_audio.device_faults import is_device_lost
from sa_ray.engines.stable_audio.edits import Editor
from sa_ray.engines.stable_audio.encoder import Encoder
from sa_ray.engines.stable_audio.graphs import Counts, Graphs
from sa_ray.engines.stable_audio.kernels import UNFUSED
from sa_ray.engines.stable_audio.lora import Adapters
from sa_ray.engines.stable_audio.memory import Fitting
from sa_ray.engines.stable_audio.rows import clip_of, row_of
from sa_ray.engines.stable_audio.sampling import sample
from sa_ray.engines.stable_audio.solvers import DEFAULT_SAMPLERS
from sa_ray.errors import ConfigurationError, GenerationError
from sa_ray.scheduling.costs import Calibration


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments of one ``generate``, and what it has so far, by row."""

    batch: Sequence[ResolvedRequest]
    sources: Sequence[Audio | None]
    on_step: OnStep
    is_cancelled: IsCancelled
    outcomes: dict[int, BatchOutcome]


class StableAudioEngine:
    """One variant of Stable Audio 3 on one device; implements ``Engine``.

    Takes over ``model``, the package's ``ConditionedDiffusionModelWrapper``, already on its device,
    and changes it in place. Raises ``ConfigurationError`` unless its objective is known.

    ``pad_shapes``: pad batches and clips to a few shapes; None: only on CUDA, where each shape is
    recorded as a CUDA graph. ``tools``: what to compute transformer blocks with; None: what is
    right and fastest on this device. ``recorder``: what to record CUDA graphs with; None: a
    ``CudaRecorder`` on CUDA, elsewhere none. ``graph_bytes``: most memory for CUDA graphs.
    ``lora_dir``: as in ``EngineOptions``.
    """

    def __init__(
        self,
        variant: VariantName,
        model: Any,
        config: dict[str, Any],
        *,
        max_batch_rows: int = 8,
        pad_shapes: bool | None = None,
        tools: Tools | None = None,
        recorder: Recorder | None = None,
        graph_bytes: int = 1 << 31,
        lora_dir: Path | None = None,
    ) -> None:
        if model.diffusion_objective not in DEFAULT_SAMPLERS:
            raise ConfigurationError(
                f"The weights of {variant} have the objective {model.diffusion_objective}: known "
                f"are {' and '.join(DEFAULT_SAMPLERS)}."
            )
        self._default_sampler = DEFAULT_SAMPLERS[model.diffusion_objective]
        self.calibration: Calibration | None = None
        self._variant = variant
        self._model = model
        self._geometry = geometry_of(model, config)
        self._device = next(model.model.parameters()).device
        keep_to_torch_attention()
        on_cuda = self._device.type == "cuda"
        self._pad_shapes = on_cuda if pad_shapes is None else pad_shapes
        recorder = recorder or (CudaRecorder() if on_cuda else None)
        self._graphs = graphs = Graphs(recorder, max_bytes=graph_bytes)
        with torch.inference_mode():
            tools = tools or choose_tools(model)
            self._is_fused = tools.operations is not None
            self._denoiser = Denoiser(
                model.model,
                graphs,
                tools,
                pad_rows_to=max_batch_rows if self._pad_shapes else None,
            )
            margin, pad_shapes = self._geometry.margin, self._pad_shapes
            self._decoder = Decoder(
                model.pretransform, graphs, tools, margin=margin, pad_shapes=pad_shapes
            )
            self._edits = Editor(
                Encoder(model.pretransform, graphs, tools, margin=margin, pad_shapes=pad_shapes),
                self._geometry,
                channels=model.io_channels,
                local_ids=model.local_add_cond_ids,
            )
            self._condition = Conditioner(model.conditioner, self._denoiser, graphs)
        self._fitting = Fitting(graphs, self._denoiser.forget)
        folder = lora_dir and lora_dir / variant
        self.adapters = Adapters(variant, model, folder, self._reweighted)

    @property
    def name(self) -> EngineName:
        return "stable-audio-3"

    @property
    def device(self) -> str:
        return str(self._device.type)

    @property
    def sample_rate(self) -> int:
        return self._geometry.sample_rate

    @property
    def slowdown(self) -> str | None:
        if (fault := self._graphs.fault) is not None:
            return f"CUDA graphs are off until the replica is started again: {fault}"
        return UNFUSED if self.device == "cuda" and not self._is_fused else None

    @property
    def fault(self) -> None:
        return None  # a device is known to be lost by its batches

    @property
    def graph_counts(self) -> Counts:
        return self._graphs.counts

    def recording(self) -> AbstractContextManager[None]:
        """Record every shape at its first use, as warm-up does."""
        return self._graphs.recording()

    def record_prompts(self) -> None:
        """Record the CUDA graphs of prompts of every length."""
        with torch.inference_mode(), self.recording():
            self._condition.record_prompts()

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        """Generate every request; halve and repeat a batch too large for the GPU's memory.

        Rows of a repeated batch report their steps again from the first. Rows with a source may
        share a batch with others; so would those with regions, which ``batch_key`` keeps apart.
        Raises ``ValueError`` for sources that are not as the port wants them.
        """
        sources = sources or [None] * len(batch)
        try:
            self.adapters.read(batch[0].loras if batch else ())
        except GenerationError as error:
            return [GenerationError(error.message, param=error.param) for _ in batch]
        call = _Call(batch, sources, on_step, is_cancelled, outcomes={})
        rows = []
        for row, request in enumerate(batch):
            if self._geometry.fits(request.duration):
                rows.append(row)
            else:
                longest = f"{self._geometry.longest:.0f} seconds"
                call.outcomes[row] = GenerationError(
                    f"{self._variant} makes clips of up to {longest}.", param="duration"
                )
        samplers = {row: batch[row].sampler or self._default_sampler for row in rows}
        for sampler in dict.fromkeys(samplers.values()):  # one, but for base models' default
            self._generate(call, [row for row in rows if samplers[row] == sampler])
        return [call.outcomes[row] for row in range(len(batch))]

    def close(self) -> None:
        """Do nothing: it ends with its process."""

    def _generate(self, call: _Call, rows: Sequence[int]) -> None:
        def attempt(part: Sequence[int]) -> None:
            call.outcomes.update(self._attempt(call, part))

        try:
            with torch.inference_mode():
                too_large = self._fitting.run(rows, attempt)
        except RuntimeError as error:
            if is_device_lost(error):
                raise DeviceLostError(str(error)) from error
            raise
        for row in too_large:
            call.outcomes[row] = GenerationError(
                f"The GPU has too little memory for {call.batch[row].duration:g} seconds of "
                f"{self._variant}: ask for less, or give the variant more of the GPU.",
                param="duration",
            )

    def _attempt(self, call: _Call, rows: Sequence[int]) -> dict[int, BatchOutcome]:
        requests = [call.batch[row] for row in rows]
        self.adapters.use(requests[0].loras)
        geometry, dist_shift = self._geometry, self._model.sampling_dist_shift
        length = max(geometry.latents(request.duration) for request in requests)
        if self._pad_shapes:
            length = geometry.padded(length)
        edits = self._edits(requests, [call.sources[row] for row in rows], length)
        latents = sample(
            self._denoiser,
            [
                row_of(request, geometry, dist_shift, edits.initials.get(place))
                for place, request in enumerate(requests)
            ],
            self._condition(requests, edits.local),
            sampler=requests[0].sampler or self._default_sampler,
            channels=self._model.io_channels,
            length=length,
            on_step=lambda place, fraction: call.on_step(rows[place], fraction),
            is_cancelled=lambda place: call.is_cancelled(rows[place]),
        )
        outcomes: dict[int, BatchOutcome] = {row: Cancelled() for row in rows}
        places = [place for place in latents if not call.is_cancelled(rows[place])]
        clips = [clip_of(requests[place], geometry, latents[place]) for place in places]
        for place, audio in zip(places, self._decoder(clips), strict=True):
            outcomes[rows[place]] = Generated(audio.numpy())
        return outcomes

    def _reweighted(self, layers: AbstractSet[str]) -> None:
        """Drop what was computed with the old weights of ``layers``."""
        self._denoiser.fold_again()
        if any(layer.startswith(PROMPT_LAYERS) for layer in layers):
            self._condition.forget_prompts()
