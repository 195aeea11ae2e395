"""One job, from its request to its file, with its progress in the terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sa_ray.cli.console import console
from sa_ray.client import Client
from sa_ray.contracts import AudioFormat, GenerationRequest, JobView
from sa_ray.errors import SaRayError

OnUpdate = Callable[[JobView], object]


def run_job(
    client: Client, request: GenerationRequest, output: Path, on_update: OnUpdate
) -> tuple[JobView, list[Path]]:
    """Have a job made and download its files, by ``Client.download_all``, to ``output``.

    Raises ``SaRayError`` if it fails.
    """
    job = client.wait(client.submit(request).id, on_update)
    if job.status != "succeeded":
        raise SaRayError(f"The job {job.status}: {job.error}")
    return job, client.download_all(job, output)


def print_warning(job: JobView) -> None:
    for file in job.results:
        if file.warning:
            console.print(f"[yellow]{escape(file.warning)}[/]")


def format_of(path: Path) -> AudioFormat:
    """Return the format that the name ends in. Raises ``BadParameter`` if it is none of ours."""
    suffix = path.suffix.lower().removeprefix(".")
    for known in get_args(AudioFormat):
        if suffix == known:
            return known  # type: ignore[no-any-return]
    raise typer.BadParameter(f"{path} must end in .wav, .flac, .mp3 or .ogg")


class JobProgress(Progress):
    """A bar of one job, with what happens in words."""

    def __init__(self, doing: str) -> None:
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=console,
        )
        self._bar = self.add_task(doing, total=None)

    def say(self, doing: str) -> None:
        self.update(self._bar, description=doing)

    def show(self, job: JobView) -> None:
        self.update(self._bar, description=job.status, completed=job.progress, total=100)
