"""The command line: ``sa-ray`` and, as the seed server had it, ``stable-audio-api``."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, get_args

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sa_ray import __version__, local
from sa_ray.client import Client
from sa_ray.config import load_settings
from sa_ray.contracts import AudioFormat, GenerationRequest, JobView
from sa_ray.errors import SaRayError
from sa_ray.settings_doc import effective_values, markdown

app = typer.Typer(
    help="Stable Audio 3 as a service on Ray Serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console(stderr=True)


@app.command()
def demo(
    prompt: Annotated[str, typer.Argument(help="What to hear.")] = "rain on a tin roof",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Ends in .wav, .flac, .mp3 or .ogg.")
    ] = Path("demo.wav"),
    model: Annotated[str | None, typer.Option(help="small-sfx, small-music or medium.")] = None,
    duration: Annotated[float, typer.Option(help="Seconds of audio.")] = 7.0,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 8,
    seed: Annotated[int, typer.Option(help="-1 draws one.")] = -1,
) -> None:
    """Start a local Ray and the whole graph, run one job over HTTP, download it, stop it all."""
    started = time.monotonic()
    request = GenerationRequest(
        model=model,
        prompt=prompt,
        duration=duration,
        steps=steps,
        seed=seed,
        format=_format_of(output),
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores hang-ups.
            signal.signal(number, _exit_in_order)
    # A process on its way out may still write there.
    with tempfile.TemporaryDirectory(prefix="sa-ray-demo-", ignore_cleanup_errors=True) as folder:
        args: dict[str, Any] = {
            "jobs_url": f"sqlite:///{folder}/jobs.db",
            "output_dir": f"{folder}/outputs",
        }
        if model:
            args["preload_models"] = model
        job = _run_demo(local.LocalService(Path(folder), args), request, output)
    _print_summary(job, output, time.monotonic() - started)
    if job.engine == "procedural":
        console.print(
            "[yellow]This is the procedural stand-in, not Stable Audio 3: "
            "README.md says how to get the real model.[/]"
        )


def _exit_in_order(number: int, _frame: FrameType | None) -> None:
    """Unwind, which stops the service, where the signal alone would leave it running."""
    sys.exit(128 + number)


def _run_demo(service: local.LocalService, request: GenerationRequest, output: Path) -> JobView:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        stage = progress.add_task("starting Ray and the graph", total=None)
        with service:
            service.wait_until_ready()
            with Client(service.base_url) as client:
                progress.update(stage, description="queued", total=100)
                job = client.wait(
                    client.submit(request).id,
                    lambda job: progress.update(
                        stage, description=job.status, completed=job.progress
                    ),
                )
                if job.status != "succeeded":
                    raise SaRayError(f"The job {job.status}: {job.error}")
                client.download(job, output)
            progress.update(stage, description="stopping")
        progress.update(stage, description="done")
    return job


def _print_summary(job: JobView, output: Path, seconds: float) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("model", job.model)
    table.add_row("engine", job.engine)
    table.add_row("seed", str(job.seed))
    table.add_row("audio", f"{job.audio_duration:.3f} s, {job.sample_rate} Hz")
    table.add_row("generated in", f"{job.timings.generation_seconds or 0:.2f} s")
    table.add_row("whole demo", f"{seconds:.1f} s")
    table.add_row("file", str(output.resolve()))
    Console().print(table)


def _format_of(path: Path) -> AudioFormat:
    suffix = path.suffix.lower().removeprefix(".")
    for known in get_args(AudioFormat):
        if suffix == known:
            return known  # type: ignore[no-any-return]
    raise typer.BadParameter(f"{path} must end in .wav, .flac, .mp3 or .ogg")


@app.command()
def config(
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/configuration.md instead.")
    ] = False,
) -> None:
    """Print the effective settings, secrets masked, and where each comes from."""
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    table = Table("setting", "value", "environment variable")
    for name, value, variable in effective_values(load_settings()):
        table.add_row(name, value, variable)
    Console().print(table)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Serve HTTP until interrupted, on a Ray of its own that nobody else can reach."""
    load_settings()
    rendered = local.hold(local.render_config(local.find_config(), host=host, port=port, args={}))
    command = local.run_command(rendered)
    os.execve(command[0], command, local.server_environment())  # noqa: S606 - our own command line


def main() -> None:
    _run(app)


def stable_audio_api() -> None:
    """The seed server's command: ``stable-audio-api --host 0.0.0.0 --port 8000``."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(serve)
    _run(single)


def _run(command: typer.Typer) -> None:
    try:
        command()
    except SaRayError as error:
        console.print(f"[red]{error.message}[/]")
        raise SystemExit(1) from None
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            console.print(f"[red]{'.'.join(map(str, item['loc']))}: {item['msg']}[/]")
        raise SystemExit(2) from None
    except httpx.HTTPError as error:
        console.print(f"[red]The service could not be reached: {error}[/]")
        raise SystemExit(1) from None
