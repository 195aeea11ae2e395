"""One job, from its request to its file, with its progress in the terminal."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, get_args

import typer
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sa_ray.cli.console import STREAM, console, print_result, say
from sa_ray.client import Client
from sa_ray.contracts import AudioFormat, GenerationRequest, JobView
from sa_ray.errors import SaRayError

UNSENT: Final = "0" * 64
"""Stands for the id of a file until it is sent."""

OnUpdate = Callable[[JobView], object]


class JobFailedError(SaRayError):
    """The service ended the job without a result."""

    code = "job_failed"

    def __init__(self, job: JobView) -> None:
        super().__init__(f"The job {job.status}: {job.error}")
        self.job = job


def send(client: Client, files: Mapping[str, Path]) -> dict[str, str]:
    """Upload files; return their ids, by the fields that are to name them."""
    return {name: client.upload(file).id for name, file in files.items()}


def run_job(
    client: Client,
    request: GenerationRequest,
    output: Path,
    on_update: OnUpdate | None = None,
    *,
    idempotency_key: str | None = None,
) -> tuple[JobView, list[Path]]:
    """Have a job made and download its files, by ``Client.download_all``, to ``output``.

    Raises ``JobFailedError`` if it fails.
    """
    job = client.wait(client.submit(request, idempotency_key=idempotency_key).id, on_update)
    if job.status != "succeeded":
        raise JobFailedError(job)
    return job, client.download_all(job, output)


@contextmanager
def destination(output: Path, as_json: bool, clips: int = 1) -> Iterator[Path]:
    """Yield the file to write: ``output``, or for ``-`` one that goes to standard output then.

    Raises ``BadParameter`` where it cannot be written there: now, not once the clip is made.
    """
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}.", param_hint="--output")
    if output != STREAM:
        if output.is_dir() or not os.access(output.parent, os.W_OK):
            raise typer.BadParameter(f"{output} cannot be written.", param_hint="--output")
        yield output
        return
    if as_json or clips > 1 or sys.stdout.isatty():
        raise typer.BadParameter(
            "`-` writes one clip to a pipe or file: not to a terminal, not beside --json, and "
            "not several.",
            param_hint="--output",
        )
    with tempfile.TemporaryDirectory(prefix="sa-ray-") as folder:
        path = Path(folder) / "clip"
        yield path
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def tell_made(
    as_json: bool, job: JobView, paths: Sequence[Path], output: Path, **more: object
) -> None:
    """Print the paths of the files of a job, or all of it and ``more`` as JSON."""
    lines = "" if output == STREAM else "".join(f"{path}\n" for path in paths)
    print_result(as_json, document(job, paths, **more), lambda: typer.echo(lines, nl=False))
    say_warnings(job)


def say_warnings(job: JobView) -> None:
    """Say what is wrong with the files of a job."""
    for made in job.results:
        if made.warning:
            say(made.warning, "yellow")


def document(job: JobView, paths: Sequence[Path], **more: object) -> dict[str, Any]:
    """Return the job as the API shows it, with the paths of its ``files``, and ``more``."""
    return job.model_dump(mode="json") | {"files": [str(path) for path in paths]} | more


def format_of(path: Path, chosen: AudioFormat | None = None) -> AudioFormat:
    """Return the format that is ``chosen`` or that the name ends in.

    Raises ``BadParameter`` if they differ, or if the name ends in none of ours.
    """
    if path == STREAM:
        return chosen or "wav"
    suffix = path.suffix.lower().removeprefix(".")
    for known in get_args(AudioFormat):
        if suffix == known and chosen in (None, known):
            return known  # type: ignore[no-any-return]
    ends = f".{chosen}" if chosen else ".wav, .flac, .mp3 or .ogg"
    raise typer.BadParameter(f"{path} must end in {ends}", param_hint="--output")


class JobProgress(Progress):
    """A bar of one job, with what happens in words; on a terminal alone.

    ``stays``: say how to find the job after a Ctrl-C, and its file if that could not be written.
    """

    def __init__(self, doing: str, *, stays: bool = True) -> None:
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self.add_task(doing, total=None)
        self._stays = stays
        self._job: str | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._stays and self._job and kind is KeyboardInterrupt:
            say(f"The job goes on: `sa-ray jobs watch {self._job}`, or `cancel` instead.")
        if self._stays and self._job and isinstance(error, OSError):
            say(f"The service has the clip: `sa-ray jobs download {self._job}`.")

    def say(self, doing: str) -> None:
        self.update(self._bar, description=doing)

    def show(self, job: JobView) -> None:
        self._job = job.id
        self.update(self._bar, description=job.status, completed=job.progress, total=100)
