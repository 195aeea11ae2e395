"""The variant deployment: one replica owns one engine, one batcher and one worker thread."""

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from ray import serve

from sa_ray.audio import Origin, read_source
from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.engines import EngineOptions, flaw_of, load_engine
from sa_ray.errors import ConfigurationError, SaRayError, UnavailableError
from sa_ray.jobs import UsageMeter
from sa_ray.scheduling.autoscaling_policy import QUEUE_SECONDS
from sa_ray.scheduling.costs import cost_of
from sa_ray.scheduling.estimator import Estimator
from sa_ray.scheduling.replica_load import Workload
from sa_ray.scheduling.reports import routing_report
from sa_ray.serving.actors import jobs_client, uploader_client
from sa_ray.serving.deployment_options import estimator
from sa_ray.serving.messages import AudioReady, BusyReplica, EncodedAudio, Progress
from sa_ray.serving.metrics import ENCODE_SECONDS
from sa_ray.serving.together import all_of
from sa_ray.serving.variant.adapters import HeldAdapters, cache_folder
from sa_ray.serving.variant.batcher import Batcher, OnProgress
from sa_ray.serving.variant.editing import Editor
from sa_ray.serving.variant.finishing import Finishing, credentials_of
from sa_ray.serving.variant.joint_progress import joint_progress
from sa_ray.serving.variant.limits import batch_limits, default_limits
from sa_ray.serving.variant.second_attempt import render_checked
from sa_ray.serving.variant.sources import Sources
from sa_ray.serving.variant.spending import OWNER, Spending, gpu_share
from sa_ray.serving.variant.turning_away import busy_until
from sa_ray.settings import (
    CredentialSettings,
    JobSettings,
    ModelSettings,
    StorageSettings,
    WeightSettings,
)
from sa_ray.storage import open_adapters
from sa_ray.telemetry import close_tracing, configure_logging, configure_tracing, span

logger = logging.getLogger(__name__)

MIN_PROGRESS_STEP = 0.01
"""Smallest progress worth a message: one percent."""

ENCODER_THREADS = 2
"""Threads for mastering and encoding. MP3 and Opus take about 30 ms of a core for each second of
audio, a loudness about 20; WAV and FLAC take next to none."""

BACKLOG_TIMEOUT_S = 2.0
"""Longest wait for the seconds of work in the durable queue."""

A = TypeVar("A")
T = TypeVar("T")


class Variant:
    """Generates audio with one model variant. Takes resolved requests, returns encoded audio."""

    def __init__(
        self,
        variant: VariantName,
        engine: EngineName,
        models: ModelSettings,
        weights: WeightSettings,
        credentials: CredentialSettings,
        jobs: JobSettings,
        storage: StorageSettings,
        gpu: float | None,
    ) -> None:
        """Load the engine. ``gpu``: share of a GPU that Ray gives this replica; None: none."""
        configure_logging()
        configure_tracing()
        spec = models.spec(variant)
        needs_token = engine == "stable-audio-3" and weights.weights_dir is None
        token = weights.opened().hf_token if needs_token else None
        self._adapters = HeldAdapters(variant, open_adapters(storage), cache_folder())
        options = EngineOptions(
            device="cpu" if gpu is None and models.device == "auto" else models.device,
            half=weights.model_half,
            hf_token=token.get_secret_value() if token else None,
            repository=spec.repository,
            revision=spec.revision,
            weights_dir=weights.weights_dir,
            lora_dir=self._adapters.folder,
            gpu_fraction=gpu and min(gpu, 1.0),
            cpu_threads=math.ceil(spec.cpu) or 1,
            max_batch_rows=spec.max_batch_rows,
        )
        # Replicas share the CPUs of their node, so a thread that waits for others must not keep
        # a CPU busy. OpenMP reads this when torch is loaded, in the engine's process.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._variant = variant
        self._spec = spec
        self._engine = load_engine(engine, variant, options)
        self._finishing = Finishing(self._engine, credentials_of(credentials))
        calibration = self._engine.calibration
        assumed = cost_of(variant, self._engine.name, gpu=self._engine.device == "cuda")
        self._limits = default_limits(spec, models.variants.get(variant), calibration)
        self._assumed = estimator(spec, assumed).calibration
        cost = calibration.cost if calibration else assumed
        self._workload = Workload(Estimator(cost, *self._limits), spec.target_wait)
        self._jobs = jobs_client(jobs)
        self._usage = UsageMeter(self._jobs.add_usage)
        spending = Spending(variant, gpu_share(), self._usage)
        self._batcher = Batcher(self._engine, self._workload, spent=spending.batch)
        self._reports_queue = models.autoscaling == "backlog"
        # Encoding has threads of its own: the engine's thread is already on the next batch.
        self._encoder = ThreadPoolExecutor(ENCODER_THREADS, thread_name_prefix="encoder")
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="checker")
        threads = ThreadPoolExecutor(1, thread_name_prefix="editor")
        self._sources = Sources(uploader_client(storage), read_source, threads)
        self._editor = Editor(self._batcher, self._sources, threads)
        logger.info(
            "%s is loaded: engine %s on %s", variant, self._engine.name, self._engine.device
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take the batch limits of ``user_config``; Serve calls this whenever that changes.

        Invalid limits are logged and change nothing: raising would have Serve replace a replica
        that works.
        """
        try:
            rows, seconds = batch_limits(user_config, self._spec, self._limits)
        except ConfigurationError as error:
            logger.error("user_config of %s is ignored: %s", self._variant, error)
            return
        self._batcher.set_limits(max_rows=rows, max_seconds=seconds)
        logger.info("%s batches at most %d rows and %g s", self._variant, rows, seconds)

    async def check_health(self) -> None:
        """Raise ``UnavailableError`` if the engine is broken; Serve then replaces the replica."""
        # A coroutine, or Serve would run it in a thread beside the batcher.
        if fault := self._batcher.health.fault:
            raise UnavailableError(f"{self._variant} must be started again: {fault}.")

    async def __del__(self) -> None:
        await self._usage.close()
        await asyncio.to_thread(self._engine.close)
        await close_tracing()

    async def generate(
        self, request: ResolvedRequest, owner: str = ""
    ) -> EncodedAudio | BusyReplica:
        """Generate and encode one clip; cancelling the call stops the work at the next step.

        ``owner``: name of the key that it is for. Returns ``BusyReplica`` instead of a clip if
        ``request.busy`` allows that and it would wait for long.
        """
        if away := self._turned_away(request):
            return away
        OWNER.set(owner)
        async with self._at_work(request):
            origin = await self._origin(request)
            return await self._produce(request, lambda _: None, origin)

    async def generate_all(
        self, request: ResolvedRequest, owner: str = ""
    ) -> list[EncodedAudio] | BusyReplica:
        """Generate and encode all clips of ``request``, or fail; the same for each as one alone."""
        if away := self._turned_away(request):
            return away
        OWNER.set(owner)
        return await self._produce_all(request, lambda _: None)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the metrics that ``BacklogPolicy`` reads; Serve asks for them."""
        metrics = self._workload.report(self._batcher.waiting)
        if self._reports_queue and serve.get_replica_context().rank.rank == 0:
            try:
                async with asyncio.timeout(BACKLOG_TIMEOUT_S):
                    metrics[QUEUE_SECONDS] = await self._jobs.backlog(
                        self._variant, self._workload.estimator, self._spec.target_wait
                    )
            except (SaRayError, TimeoutError) as error:
                logger.warning("the backlog of jobs is not known: %s", error)
        return metrics

    async def record_routing_stats(self) -> dict[str, Any]:
        """Return what ``EarliestCompletionRouter`` and ``Slowdowns`` read; Serve asks, too."""
        # A coroutine, or Serve would run it in a thread beside the batcher.
        left = self._workload.seconds_left(self._batcher.waiting)
        calibration = self._workload.estimator.calibration
        return routing_report(
            left,
            self._workload.scale,
            slowdown=self._engine.slowdown,
            calibration=None if calibration == self._assumed else calibration,
            loras=self._workload.loras,
        )

    async def stream(
        self, request: ResolvedRequest, owner: str = ""
    ) -> AsyncGenerator[Progress | AudioReady | bytes | BusyReplica, None]:
        """Yield ``Progress`` any number of times, then ``AudioReady`` and the encoded bytes, of
        each clip in turn; or ``BusyReplica`` alone, where ``generate`` returns it."""
        if away := self._turned_away(request):
            yield away
            return
        OWNER.set(owner)
        reports: asyncio.Queue[float] = asyncio.Queue()
        work = asyncio.create_task(self._produce_all(request, reports.put_nowait))
        sent = 0.0
        try:
            while not work.done():
                report = asyncio.ensure_future(reports.get())
                await asyncio.wait({work, report}, return_when=asyncio.FIRST_COMPLETED)
                if not report.done():
                    report.cancel()
                elif report.result() - sent >= MIN_PROGRESS_STEP:
                    sent = report.result()
                    yield Progress(sent)
            for encoded in await work:
                yield AudioReady(encoded.info)
                yield encoded.data
        finally:
            work.cancel()

    def _turned_away(self, request: ResolvedRequest) -> BusyReplica | None:
        until = busy_until(request, self._workload, self._batcher.waiting)
        if until is None:
            return None
        return BusyReplica(serve.get_replica_context().replica_id.unique_id, until)

    async def _produce_all(
        self, request: ResolvedRequest, on_progress: OnProgress
    ) -> list[EncodedAudio]:
        told = joint_progress(request.n, on_progress)
        clips = zip(request.variations(), told, strict=True)
        async with self._at_work(request):
            origin = await self._origin(request)
            # Begun together, so that the batcher has all of them when it forms the next batch.
            return await all_of(
                self._produce(clip, tell, origin, request.n) for clip, tell in clips
            )

    @asynccontextmanager
    async def _at_work(self, request: ResolvedRequest) -> AsyncIterator[None]:
        """Have the work on ``request`` be a span, with its adapters held."""
        told = {"sa_ray.variant": self._variant, "sa_ray.clips": request.n}
        with span("variant", request.traceparent, told):
            async with self._adapters.held(request.loras):
                yield

    async def _origin(self, request: ResolvedRequest) -> Origin | None:
        """Return what the signed files of ``request`` are edited from, if any are."""
        # Once for all clips, and before the work, which would be lost if it cannot be had.
        if request.source and self._finishing.signs(request.format):
            return await self._sources.origin(request.source)
        return None

    async def _produce(
        self,
        request: ResolvedRequest,
        on_progress: OnProgress,
        origin: Origin | None,
        spacing: int = 1,
    ) -> EncodedAudio:
        """Make one clip. ``spacing``: from its seed to that of a second attempt."""
        # Not in the encoder's threads: a second attempt should not wait for other clips' files.
        flaw = _in(self._checker, flaw_of)
        checked = await render_checked(self._editor.render, flaw, request, on_progress, spacing)
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        with span("encode", attributes={"sa_ray.format": request.format}):
            encoded = await loop.run_in_executor(
                self._encoder, self._finishing.finish, request, checked, origin
            )
        seconds = time.monotonic() - started
        ENCODE_SECONDS.observe(seconds, format=request.format, variant=self._variant)
        return replace(encoded, encode_seconds=seconds)


def _in(threads: ThreadPoolExecutor, work: Callable[[A], T]) -> Callable[[A], Awaitable[T]]:
    """Return ``work`` as it is awaited, done by ``threads``."""

    async def done(argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work, argument)

    return done
