"""``sa-ray demo``: one job through a service that lives only for it."""

import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sa_ray import local
from sa_ray.cli.console import STREAM, AsJson, print_result, say
from sa_ray.cli.jobs import (
    JobProgress,
    destination,
    document,
    format_of,
    run_job,
    say_warnings,
)
from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest, JobView
from sa_ray.engines import resolve_engine_name
from sa_ray.jobs.sqlite_file import sqlite_url
from sa_ray.serving.ingress.resolution import resolve
from sa_ray.settings import Settings

RETRY_S = 10.0
"""A service of one's own that is gone for longer does not come back."""


def demo(
    prompt: Annotated[str, typer.Argument(help="What to hear.")] = "rain on a tin roof",
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Ends in .wav, .flac, .mp3 or .ogg; `-`: to standard output."
        ),
    ] = Path("demo.wav"),
    model: Annotated[str | None, typer.Option(help="small-sfx, small-music or medium.")] = None,
    duration: Annotated[float, typer.Option(help="Seconds of audio.")] = 7.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 8,
    seed: Annotated[int, typer.Option(help="-1 draws one.")] = -1,
    as_json: AsJson = False,
) -> None:
    """Start a local Ray and the whole graph, run one job over HTTP, download it, stop it all."""
    started = time.monotonic()
    request = GenerationRequest(
        model=model,
        prompt=prompt,
        duration=duration,
        steps=steps,
        seed=seed,
        format=format_of(output),
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores hang-ups.
            signal.signal(number, _exit_in_order)
    # A process on its way out may still write there.
    with (
        destination(output, as_json) as path,
        tempfile.TemporaryDirectory(prefix="sa-ray-demo-", ignore_cleanup_errors=True) as folder,
    ):
        args: dict[str, Any] = {
            "jobs_url": sqlite_url(Path(folder) / "jobs.db"),
            "output_dir": f"{folder}/outputs",
            "api_keys_file": "",  # nobody else reaches it
        }
        if model:
            args["preload_models"] = model
        service = local.LocalService(Path(folder), args)
        _refuse_what_the_service_would(request, service.settings)
        job = _run_demo(service, request, path)
    seconds = time.monotonic() - started
    told = document(job, [output.resolve()], demo_seconds=round(seconds, 1))
    print_result(as_json, told, lambda: _print_summary(job, output, seconds))
    say_warnings(job)
    say("For a page that makes and plays them: sa-ray serve, then http://127.0.0.1:8000/")
    if job.engine == "procedural":
        say(
            "This is the procedural stand-in, not Stable Audio 3: README.md says how to get the "
            "real model.",
            "yellow",
        )


def _refuse_what_the_service_would(request: GenerationRequest, settings: Settings) -> None:
    engine = resolve_engine_name(settings.models.engine)
    resolve(request, settings.models, settings.limits, engine)


def _exit_in_order(number: int, _frame: FrameType | None) -> None:
    """Unwind, which stops the service, where the signal alone would leave it running."""
    sys.exit(128 + number)


def _run_demo(service: local.LocalService, request: GenerationRequest, output: Path) -> JobView:
    with JobProgress("starting Ray and the graph", stays=False) as progress:
        with service:
            service.wait_until_ready()
            with Client(service.base_url, retry_s=RETRY_S) as client:
                progress.say("queued")
                job, _ = run_job(client, request, output, progress.show)
            progress.say("stopping")
        progress.say("done")
    return job


def _print_summary(job: JobView, output: Path, seconds: float) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("model", job.model)
    table.add_row("engine", job.engine)
    table.add_row("seed", str(job.seed))
    table.add_row("audio", f"{job.audio_duration:.3f} s, {job.sample_rate} Hz")
    table.add_row("generated in", f"{job.timings.generation_seconds or 0:.2f} s")
    table.add_row("whole demo", f"{seconds:.1f} s")
    if output != STREAM:
        table.add_row("file", str(output.resolve()))
    Console(stderr=output == STREAM).print(table)
