"""``sa-ray regenerate``: make a file of the service again, from what its tags say."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sa_ray.audio import provenance_of
from sa_ray.cli.console import console, service_address
from sa_ray.cli.jobs import JobProgress, print_warning, run_job
from sa_ray.client import Client


def regenerate(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file of ours.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: FILE with `-again` in its name.")
    ] = None,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://localhost:8000",
) -> None:
    """Make FILE again: the same prompt, seed and format, by a running service.

    Says whether the bytes are the same. Ogg files never are: each has a serial number of its own.
    """
    found = provenance_of(file)
    output = output or file.with_stem(f"{file.stem}-again")
    if output.resolve() == file.resolve():
        raise typer.BadParameter("--output is FILE itself; name another, to compare them.")
    digest = _digest(file)
    with Client(service_address(url)) as client, JobProgress("queued") as progress:
        job, _ = run_job(client, found.request, output, progress.show)
    typer.echo(output)
    print_warning(job)
    for made in job.loras:
        if found.adapters.get(made.name) not in (None, made.sha256):
            console.print(
                f"[yellow]{escape(made.name)} is another adapter now than {escape(str(file))} was "
                "made with: another sound.[/]"
            )
    if job.engine != found.engine:
        console.print(
            f"[yellow]{escape(str(file))} was made by the engine {found.engine}, this by "
            f"{job.engine}: another sound.[/]"
        )
    elif job.format != "ogg":
        same = digest == job.sha256
        console.print("the same, byte for byte" if same else "[yellow]not the same bytes[/]")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
