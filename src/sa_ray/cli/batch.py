"""``sa-ray batch``: many requests from a file, by a running service; begun again, it goes on."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sa_ray.cli.batch_manifest import NAME, BatchManifest, Entry
from sa_ray.cli.batch_rows import Row, read_rows
from sa_ray.cli.connecting import connect
from sa_ray.cli.console import HERE, STREAM, AsJson, Url, console, print_line, say
from sa_ray.cli.jobs import JobFailedError, run_job, send
from sa_ray.client import Client
from sa_ray.contracts import AudioFormat
from sa_ray.errors import SaRayError

RETRY_S: Final = 600.0
"""How long a service that is busy or away is asked again for one request, seconds."""


def batch(
    file: Annotated[
        Path,
        typer.Argument(
            dir_okay=False,
            help="Requests: .csv, or JSON on lines; `-`: JSON on lines from standard input.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder of the files.")],
    model: Annotated[str | None, typer.Option(help="Of requests that name none.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds, likewise.")] = None,
    format_: Annotated[AudioFormat | None, typer.Option("--format", help="Likewise.")] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Jobs that wait or are made at once.")
    ] = 32,
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """Have a running service make the clips of a file of requests.

    Columns are the fields of a request, and `output`, the name of its file. Those of edits name
    files beside the file of requests. What became of each is in manifest.jsonl in the folder; run
    the same again to go on after an interruption, and to try anew what failed. Ends with 1 if
    anything did. With --json: the lines of the manifest as they come, and a summary.
    """
    if file != STREAM and not file.exists():  # Typer would refuse `-`, too
        raise typer.BadParameter(f"{file} does not exist.", param_hint="FILE")
    given = {"model": model, "duration": duration, "format": format_}
    rows = read_rows(file, {name: value for name, value in given.items() if value is not None})
    manifest = BatchManifest(out)
    left = [row for row in rows if not manifest.made(row)]
    failed = 0
    try:
        with closing(manifest), _progress() as progress:
            # Not closed if interrupted: threads that wait for answers end with the process.
            client = connect(url, RETRY_S)
            bar = progress.add_task("clips", total=len(rows), completed=len(rows) - len(left))
            for entry in _made(client, manifest, out, left, parallel):
                failed += entry.error is not None
                progress.advance(bar)
                _tell(out, entry, as_json)
    except KeyboardInterrupt:
        say("Run the same again to go on; jobs under way are made meanwhile.")
        raise
    _summarise(out, len(rows), len(rows) - len(left), failed, as_json)
    if failed:
        raise typer.Exit(1)


def _made(
    client: Client, manifest: BatchManifest, out: Path, rows: Sequence[Row], parallel: int
) -> Iterator[Entry]:
    """Make the files of ``rows``, some at once; yield what became of each as it is done."""
    waiting: queue.SimpleQueue[Row] = queue.SimpleQueue()
    done: queue.SimpleQueue[Entry | BaseException] = queue.SimpleQueue()
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


def _make(client: Client, manifest: BatchManifest, out: Path, row: Row) -> Entry:
    try:
        request = row.request.model_copy(update=send(client, row.sources))
        path = out / row.output
        path.parent.mkdir(parents=True, exist_ok=True)
        job, paths = run_job(client, request, path, idempotency_key=manifest.key(row))
    except (SaRayError, httpx.HTTPError, OSError) as error:
        told = error.message if isinstance(error, SaRayError) else repr(error)
        job_id = error.job.id if isinstance(error, JobFailedError) else None
        return manifest.failed(row, told, job_id)
    return manifest.succeeded(row, job, paths)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _tell(out: Path, entry: Entry, as_json: bool) -> None:
    if entry.error is not None:
        say(f"line {entry.line}: {entry.error}", "red")
    if as_json:
        print_line(as_json, entry, "")
        return
    for file in entry.files:
        typer.echo(out / file.name)


def _summarise(out: Path, rows: int, skipped: int, failed: int, as_json: bool) -> None:
    made = rows - skipped - failed
    manifest = str(out / NAME)
    if as_json:
        counts = {"requests": rows, "made": made, "there_already": skipped, "failed": failed}
        print_line(as_json, {"summary": {**counts, "manifest": manifest}}, "")
    else:
        say(f"{made} made, {skipped} there already, {failed} failed; {manifest}")
