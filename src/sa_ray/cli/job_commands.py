"""``sa-ray jobs``: list, show, watch, cancel and download jobs of a running service."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from sa_ray.cli.connecting import connect
from sa_ray.cli.console import (
    HERE,
    AsJson,
    Url,
    on_one_line,
    print_line,
    print_result,
    print_table,
    say,
)
from sa_ray.cli.jobs import JobProgress, destination, say_warnings, tell_made
from sa_ray.contracts import JobStatus, JobView

app = typer.Typer(help="List, show, watch, cancel and download jobs.", no_args_is_help=True)

COLUMNS = ("id", "status", "model", "created", "audio", "prompt")

JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job.")]


@app.command("list")
def list_(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most jobs to list.")] = 20,
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """List jobs, newest first. In a pipe or file: one on a line, between tabs."""
    with connect(url) as client:
        found = list(islice(client.jobs(status=status, prompts=True), limit))
    rows = [_cells(job) for job in found]
    print_result(as_json, found, lambda: print_table(COLUMNS, rows))


@app.command()
def show(job_id: JobId, as_json: AsJson = False, url: Url = HERE) -> None:
    """Show all that is known of a job."""
    with connect(url) as client:
        job = client.job(job_id)
    print_result(as_json, job, lambda: _print(job))


@app.command()
def watch(job_id: JobId, as_json: AsJson = False, url: Url = HERE) -> None:
    """Wait until a job has ended, and say how; ends with 1 unless it has succeeded.

    With --json: the job whenever it has changed, a line for each time.
    """
    seen: JobView | None = None

    def update(job: JobView) -> None:
        nonlocal seen
        if as_json and job != seen:
            print_line(as_json, job, job.status)
        seen = job
        progress.show(job)

    with connect(url) as client, JobProgress("waiting") as progress:
        job = client.wait(job_id, update)
    if not as_json:
        typer.echo(job.status)
    say_warnings(job)
    if job.error:
        say(job.error, "red")
    if job.status != "succeeded":
        raise typer.Exit(1)


@app.command()
def cancel(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.")],
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """Cancel jobs; those that have ended are deleted, with their audio. Prints the ids."""
    with connect(url) as client:
        for job_id in job_ids:
            client.cancel(job_id)
            print_line(as_json, {"id": job_id}, job_id)


@app.command()
def download(
    job_id: JobId,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Default: the id and the format of the job. `-`: to standard output.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """Download the files of a job that has succeeded; print their names."""
    with connect(url) as client:
        job = client.job(job_id)
        output = output or Path(f"{job.id}.{job.format}")
        with destination(output, as_json, len(job.results)) as path:
            paths = client.download_all(job, path)
    tell_made(as_json, job, paths, output)


def _print(job: JobView) -> None:
    for name, value in job.model_dump(mode="json").items():
        if value not in (None, [], {}):
            text = value if isinstance(value, str) else json.dumps(value)
            typer.echo(f"{name}\t{on_one_line(text)}")


def _cells(job: JobView) -> list[str]:
    seconds = "" if job.audio_duration is None else f"{job.audio_duration:.1f} s"
    created = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    prompt = " ".join((job.prompt or "").split())
    return [job.id, job.status, job.model, created, seconds, prompt]
