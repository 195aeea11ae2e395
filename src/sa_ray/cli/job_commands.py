"""``sa-ray jobs``: list, show, watch, cancel and download jobs of a running service."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sa_ray.cli.console import console, print_table, service_address
from sa_ray.cli.jobs import JobProgress, print_warning
from sa_ray.client import Client
from sa_ray.contracts import JobStatus, JobView

app = typer.Typer(help="List, show, watch, cancel and download jobs.", no_args_is_help=True)

COLUMNS = ("id", "status", "model", "created", "audio", "prompt")

Url = Annotated[str, typer.Option(help="Address of the service.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]

HERE = "http://localhost:8000"


@app.command("list")
def list_(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most jobs to list.")] = 20,
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """List jobs, newest first. In a pipe or file: one on a line, between tabs."""
    with Client(service_address(url)) as client:
        found = list(islice(client.jobs(status=status, prompts=True), limit))
    if as_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in found], indent=2))
        return
    print_table(COLUMNS, [_cells(job) for job in found])


@app.command()
def show(job_id: JobId, as_json: AsJson = False, url: Url = HERE) -> None:
    """Show all that is known of a job."""
    with Client(service_address(url)) as client:
        job = client.job(job_id)
    told = job.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        if value not in (None, [], {}):
            typer.echo(f"{name}\t{value if isinstance(value, str) else json.dumps(value)}")


@app.command()
def watch(job_id: JobId, url: Url = HERE) -> None:
    """Wait until a job has ended, and say how; ends with 1 unless it has succeeded."""
    with Client(service_address(url)) as client, JobProgress("waiting") as progress:
        job = client.wait(job_id, progress.show)
    typer.echo(job.status)
    print_warning(job)
    if job.error:
        console.print(f"[red]{escape(str(job.error))}[/]")
    if job.status != "succeeded":
        raise typer.Exit(1)


@app.command()
def cancel(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.")],
    url: Url = HERE,
) -> None:
    """Cancel jobs; those that have ended are deleted, with their audio."""
    with Client(service_address(url)) as client:
        for job_id in job_ids:
            client.cancel(job_id)


@app.command()
def download(
    job_id: JobId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: the id and the format of the job."),
    ] = None,
    url: Url = HERE,
) -> None:
    """Download the files of a job that has succeeded; print their names."""
    with Client(service_address(url)) as client:
        job = client.job(job_id)
        for path in client.download_all(job, output or Path(f"{job.id}.{job.format}")):
            typer.echo(path)
    print_warning(job)


def _cells(job: JobView) -> list[str]:
    seconds = "" if job.audio_duration is None else f"{job.audio_duration:.1f} s"
    created = job.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    prompt = " ".join((job.prompt or "").split())
    return [job.id, job.status, job.model, created, seconds, prompt]
