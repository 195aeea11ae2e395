"""The engine over the ``stable-audio-3`` package: batches, their failures, and how it starts."""

import logging
import math
from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
import torch
from stable_audio_3.inference.sampling import build_schedule
from stable_audio_3.models import transformer as package_transformer

from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.engines.port import (
    BatchOutcome,
    Cancelled,
    EngineOptions,
    Generated,
    IsCancelled,
    OnStep,
)
from sa_ray.engines.stable_audio.decoder import Clip, Decoder
from sa_ray.engines.stable_audio.denoiser import Conditioning, Denoiser
from sa_ray.engines.stable_audio.graphs import Graphs
from sa_ray.engines.stable_audio.plan import Geometry, halves
from sa_ray.engines.stable_audio.prompts import PromptEncoder, TextEmbedding
from sa_ray.engines.stable_audio.sampler import Row, sample
from sa_ray.engines.stable_audio.selftest import check_attention, fault_of
from sa_ray.engines.stable_audio.weights import build_model, find_snapshot
from sa_ray.errors import ConfigurationError, GenerationError, UnavailableError

_log = logging.getLogger(__name__)

WARM_UP_SECONDS: Final = (5.0, 30.0)
"""Durations whose CUDA graphs are recorded before the replica reports healthy."""


class StableAudioEngine:
    """One variant of Stable Audio 3 on one device; implements ``Engine``.

    Takes over ``model``, the package's ``ConditionedDiffusionModelWrapper``, already on its
    device, and changes it in place.

    ``pad_shapes``: pad batches and clips to a few shapes; None: on CUDA, where each shape is
    recorded as a CUDA graph.
    """

    def __init__(
        self,
        variant: VariantName,
        model: Any,
        config: dict[str, Any],
        *,
        max_batch_rows: int = 8,
        pad_shapes: bool | None = None,
    ) -> None:
        if model.diffusion_objective != "rf_denoiser":
            raise ConfigurationError(
                f"The weights of {variant} have the objective {model.diffusion_objective}: only "
                "the distilled models (rf_denoiser) are supported, not the base ones."
            )
        self._variant = variant
        self._model = model
        self._geometry = _geometry(model, config)
        self._device = next(model.model.parameters()).device
        # None selects the package's exact fallback: compiling its sliding-window attention takes
        # seconds for each new length, and without a compiler it runs 30 times slower, in silence.
        package_transformer.flex_attention_compiled = None
        on_cuda = self._device.type == "cuda"
        self._pad_shapes = on_cuda if pad_shapes is None else pad_shapes
        self._max_batch_rows = max_batch_rows
        self._graphs = graphs = Graphs(enabled=on_cuda)
        conditioners = model.conditioner.conditioners
        with torch.inference_mode():
            self._prompts = PromptEncoder(conditioners["prompt"], graphs, self._device)
            self._denoiser = Denoiser(
                model.model, graphs, pad_rows_to=max_batch_rows if self._pad_shapes else None
            )
            self._decoder = Decoder(
                model.pretransform,
                graphs,
                margin=self._geometry.margin,
                pad_shapes=self._pad_shapes,
            )

    @property
    def name(self) -> EngineName:
        return "stable-audio-3"

    @property
    def device(self) -> str:
        return str(self._device.type)

    @property
    def sample_rate(self) -> int:
        return self._geometry.sample_rate

    def batch_key(self, request: ResolvedRequest) -> Hashable:
        """Steps, guidance on or off, and the coarse length: what a batch must have in common."""
        length = self._geometry.padded(self._geometry.latents(request.duration))
        return request.steps, request.cfg_scale != 1.0, length

    def generate(
        self, batch: Sequence[ResolvedRequest], on_step: OnStep, is_cancelled: IsCancelled
    ) -> list[BatchOutcome]:
        """Generate every request; a batch too large for the GPU's memory is halved and repeated.

        Rows whose batch is repeated report their steps again from the first.
        """
        outcomes: dict[int, BatchOutcome] = {}
        rows = []
        for row, request in enumerate(batch):
            if self._geometry.fits(request.duration):
                rows.append(row)
            else:
                limit = self._geometry.max_latents * self._geometry.samples_per_latent
                outcomes[row] = GenerationError(
                    f"{self._variant} makes clips of up to {limit / self.sample_rate:.0f} seconds.",
                    param="duration",
                )
        if rows:
            with torch.inference_mode():
                self._generate(batch, rows, on_step, is_cancelled, outcomes)
        return [outcomes[row] for row in range(len(batch))]

    def self_test(self) -> None:
        """Make a second of audio and look at it; raises ``UnavailableError`` if it is broken."""
        attention = self._denoiser.transformer.layers[0].self_attn
        with torch.inference_mode():
            check_attention(
                heads=attention.num_heads,
                width=attention.dim_heads,
                dtype=self._denoiser.dtype,
                device=self._device,
            )
        (outcome,) = self.generate([self._probe(1.0)], _ignore_step, _never)
        match outcome:
            case Generated(samples):
                fault = fault_of(samples)
            case _:
                fault = str(outcome)
        if fault is not None:
            raise UnavailableError(
                f"The self-test of {self._variant} on {self.device} failed: {fault}. Check the "
                "weights, and the versions of torch and of the GPU driver; with "
                "STABLE_AUDIO_MODEL_HALF=false it runs in fp32."
            )

    def warm_up(self) -> None:
        """Record the CUDA graphs of common shapes, so that no caller waits for it."""
        if self._device.type != "cuda":
            return
        rows = {min(1 << power, self._max_batch_rows) for power in range(10)}
        for seconds in WARM_UP_SECONDS:
            for count in sorted(rows):
                self.generate([self._probe(seconds)] * count, _ignore_step, _never)

    def _probe(self, seconds: float) -> ResolvedRequest:
        return ResolvedRequest(
            model=self._variant,
            prompt="rain on a tin roof",
            duration=seconds,
            steps=8,
            cfg_scale=1.0,
            seed=0,
        )

    def _generate(
        self,
        batch: Sequence[ResolvedRequest],
        rows: Sequence[int],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        outcomes: dict[int, BatchOutcome],
    ) -> None:
        try:
            outcomes.update(self._attempt(batch, rows, on_step, is_cancelled))
            return
        except torch.cuda.OutOfMemoryError:
            _log.warning("out of GPU memory with %d rows", len(rows))
        # Out of the handler: its traceback holds the tensors that must be freed first.
        held = self._graphs.clear()
        torch.cuda.empty_cache()
        if held:
            self._generate(batch, rows, on_step, is_cancelled, outcomes)
            return
        if len(rows) == 1:
            request = batch[rows[0]]
            outcomes[rows[0]] = GenerationError(
                f"The GPU has too little memory for {request.duration:g} seconds of "
                f"{self._variant}: ask for less, or give the variant more of the GPU.",
                param="duration",
            )
            return
        for half in halves(rows):
            self._generate(batch, half, on_step, is_cancelled, outcomes)

    def _attempt(
        self,
        batch: Sequence[ResolvedRequest],
        rows: Sequence[int],
        on_step: OnStep,
        is_cancelled: IsCancelled,
    ) -> dict[int, BatchOutcome]:
        requests = [batch[row] for row in rows]
        geometry = self._geometry
        length = max(geometry.latents(request.duration) for request in requests)
        if self._pad_shapes:
            length = geometry.padded(length)
        latents = sample(
            self._denoiser,
            [self._row(request) for request in requests],
            self._condition(requests),
            channels=self._model.io_channels,
            length=length,
            on_step=lambda place, fraction: on_step(rows[place], fraction),
            is_cancelled=lambda place: is_cancelled(rows[place]),
        )
        outcomes: dict[int, BatchOutcome] = {row: Cancelled() for row in rows}
        places = [place for place in latents if not is_cancelled(rows[place])]
        clips = [self._clip(requests[place], latents[place]) for place in places]
        for place, audio in zip(places, self._decoder(clips), strict=True):
            outcomes[rows[place]] = _finished(audio.numpy())
        return outcomes

    def _row(self, request: ResolvedRequest) -> Row:
        geometry = self._geometry
        schedule = build_schedule(
            request.steps,
            dist_shift=self._model.sampling_dist_shift,
            effective_seq_len=geometry.content(request.duration),
        )
        return Row(
            request.seed,
            geometry.latents(request.duration),
            geometry.valid(request.duration),
            schedule.float(),
        )

    def _clip(self, request: ResolvedRequest, latents: Any) -> Clip:
        geometry = self._geometry
        return Clip(
            latents,
            decoded=geometry.decoded(request.duration),
            samples=geometry.samples(request.duration),
            whole=request.chunked_decode is False,
        )

    def _condition(self, requests: Sequence[ResolvedRequest]) -> Conditioning:
        guided = requests[0].cfg_scale != 1.0
        negatives = [request.negative_prompt for request in requests] if guided else []
        prompts = [request.prompt for request in requests]
        texts = iter(self._prompts([*prompts, *filter(None, negatives)]))
        seconds, _ = self._model.conditioner.conditioners["seconds_total"](
            [request.duration for request in requests], self._device
        )
        context = [
            torch.cat([next(texts).tokens, second])
            for _, second in zip(requests, seconds, strict=True)
        ]
        for negative, positive, second in zip(negatives, context[:], seconds, strict=False):
            context.append(
                _negative(next(texts), second) if negative else torch.zeros_like(positive)
            )
        embedding = seconds[:, 0].repeat(2 if guided else 1, 1)
        scale = None
        if guided:
            scale = torch.tensor([r.cfg_scale for r in requests], device=self._device)
        return self._denoiser.condition(torch.stack(context), embedding, scale)


def load(variant: VariantName, options: EngineOptions) -> StableAudioEngine:
    """Load ``variant``, test it and warm it up; takes seconds to minutes.

    Raises ``ConfigurationError`` or ``UnavailableError`` with what to do about it.
    """
    device = _device(options)
    if options.cpu_threads is not None:
        torch.set_num_threads(options.cpu_threads)
    if device.type == "cuda" and options.gpu_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(min(options.gpu_fraction, 1.0))
    snapshot = find_snapshot(variant, options)
    half = options.half and device.type == "cuda"
    try:
        model, config = build_model(snapshot, device=device, half=half)
        engine = StableAudioEngine(variant, model, config, max_batch_rows=options.max_batch_rows)
        engine.self_test()
        engine.warm_up()
    except torch.cuda.OutOfMemoryError as error:
        raise UnavailableError(
            f"The GPU has too little memory to load {variant}: give it a larger share (`gpu` of "
            "the variant), or move another variant away."
        ) from error
    return engine


def _device(options: EngineOptions) -> Any:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = options.device
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    elif not available[name]:
        raise ConfigurationError(
            f"STABLE_AUDIO_DEVICE={name}, but torch {torch.__version__} sees no such device here."
        )
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def _geometry(model: Any, config: dict[str, Any]) -> Geometry:
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


def _negative(text: TextEmbedding, second: Any) -> Any:
    tokens = torch.where(text.mask[:, None], text.tokens, torch.zeros_like(text.tokens))
    return torch.cat([tokens, second])


def _finished(samples: Any) -> BatchOutcome:
    if not np.isfinite(samples).all():
        return GenerationError(
            "The model returned samples that are not numbers for this request. Try another seed."
        )
    return Generated(samples)


def _ignore_step(row: int, fraction: float) -> None:
    pass


def _never(row: int) -> bool:
    return False
