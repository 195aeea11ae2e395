"""``sa-ray batch``: many requests from a file, by a running service; begun again, it goes on."""

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sa_ray.cli.batch_manifest import NAME, BatchManifest
from sa_ray.cli.batch_rows import Row, read_rows
from sa_ray.cli.console import console, service_address
from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest
from sa_ray.errors import SaRayError

INTERRUPTED: Final = 130
"""Exit status after a Ctrl-C, as shells have it: 128 and the number of SIGINT."""

RETRY_S: Final = 600.0
"""How long a service that is busy or away is asked again for one request, seconds."""

Outcome = tuple[Row, Sequence[Path], str | None]
"""A row, its files, and why there are none."""


def batch(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Requests: .csv, or JSON on lines."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder of the files.")],
    model: Annotated[str | None, typer.Option(help="Of requests that name none.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds, likewise.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="wav, flac, mp3 or ogg, likewise.")
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Jobs that wait or are made at once.")
    ] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://localhost:8000",
) -> None:
    """Have a running service make the clips of a file of requests.

    Columns are the fields of a request, and `output`, the name of its file. Those of edits name
    files beside the file of requests. What became of each is in manifest.jsonl in the folder; run
    the same again to go on after an interruption, and to try anew what failed. Ends with 1 if
    anything did.
    """
    given = {"model": model, "duration": duration, "format": format_}
    rows = read_rows(file, {name: value for name, value in given.items() if value is not None})
    manifest = BatchManifest(out)
    left = [row for row in rows if not manifest.made(row)]
    failed = 0
    # Not closed where it is interrupted: threads that wait for answers end with the process.
    client = Client(service_address(url), retry_s=RETRY_S)
    try:
        with _progress() as progress:
            bar = progress.add_task("clips", total=len(rows), completed=len(rows) - len(left))
            for row, paths, error in _made(client, manifest, out, left, parallel):
                failed += error is not None
                progress.advance(bar)
                _tell(progress, row, paths, error, quiet=as_json)
    except KeyboardInterrupt:
        console.print(
            "Interrupted. Run the same again to go on; jobs under way are made meanwhile."
        )
        raise typer.Exit(INTERRUPTED) from None
    _summarise(out, len(rows), len(rows) - len(left), failed, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _made(
    client: Client, manifest: BatchManifest, out: Path, rows: Sequence[Row], parallel: int
) -> Iterator[Outcome]:
    """Make the files of ``rows``, some at once; yield them as they are done."""
    waiting: queue.SimpleQueue[Row] = queue.SimpleQueue()
    done: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
    for row in rows:
        waiting.put(row)

    def work() -> None:
        try:
            while True:
                row = waiting.get_nowait()
                done.put(_make(client, manifest, out, row))
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 - raised where it is heard
            done.put(error)

    for _ in range(min(parallel, len(rows))):
        threading.Thread(target=work, daemon=True).start()
    for _ in rows:
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome


def _make(client: Client, manifest: BatchManifest, out: Path, row: Row) -> Outcome:
    failed_job = None
    try:
        sent = {name: client.upload(path).id for name, path in row.sources.items()}
        request = GenerationRequest.model_validate(
            row.request.model_dump(exclude_unset=True) | sent
        )
        job = client.wait(client.submit(request, idempotency_key=manifest.key(row)).id)
        if job.status != "succeeded":
            failed_job = job.id
            raise SaRayError(f"The job {job.status}: {job.error}")
        path = out / row.output
        path.parent.mkdir(parents=True, exist_ok=True)
        paths = client.download_all(job, path)
    except (SaRayError, httpx.HTTPError, OSError) as error:
        told = error.message if isinstance(error, SaRayError) else repr(error)
        manifest.failed(row, told, failed_job)
        return row, [], told
    manifest.succeeded(row, job, paths)
    return row, paths, None


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _tell(
    progress: Progress, row: Row, paths: Sequence[Path], error: str | None, *, quiet: bool
) -> None:
    if error is not None:
        progress.console.print(f"[red]line {row.line}: {escape(error)}[/]")
    if not quiet:
        for path in paths:
            typer.echo(path)


def _summarise(out: Path, rows: int, skipped: int, failed: int, *, as_json: bool) -> None:
    told: dict[str, Any] = {
        "requests": rows,
        "made": rows - skipped - failed,
        "there_already": skipped,
        "failed": failed,
        "manifest": str(out / NAME),
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    console.print(
        f"{told['made']} made, {skipped} there already, {failed} failed; {escape(told['manifest'])}"
    )
