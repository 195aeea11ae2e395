"""``sa-ray regenerate``: make a file of the service again, from what its tags say."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from sa_ray.audio import Provenance, provenance_of
from sa_ray.cli.connecting import connect
from sa_ray.cli.console import HERE, AsJson, Url, say
from sa_ray.cli.jobs import JobProgress, destination, run_job, tell_made
from sa_ray.contracts import JobView


def regenerate(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file of ours.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Default: FILE with `-again` in its name. `-`: to standard output.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """Make FILE again: the same prompt, seed and format, by a running service.

    Says whether the bytes are the same. Ogg files never are: each has a serial number of its own.
    """
    found = provenance_of(file)
    output = output or file.with_stem(f"{file.stem}-again")
    if output.resolve() == file.resolve():
        raise typer.BadParameter("--output is FILE itself; name another, to compare them.")
    digest = _digest(file)
    with (
        destination(output, as_json) as path,
        connect(url) as client,
        JobProgress("queued") as progress,
    ):
        job, paths = run_job(client, found.request, path, progress.show)
    same = None if _differs(file, found, job) or job.format == "ogg" else digest == job.sha256
    tell_made(as_json, job, paths, output, same_bytes=same)
    if same is not None:
        say("the same, byte for byte" if same else "not the same bytes", "" if same else "yellow")


def _differs(file: Path, found: Provenance, job: JobView) -> bool:
    """Say why the sound is another one, if so; return whether another engine made it."""
    for made in job.loras:
        if found.adapters.get(made.name) not in (None, made.sha256):
            say(
                f"{made.name} is another adapter now than {file} was made with: another sound.",
                "yellow",
            )
    if job.engine != found.engine:
        say(
            f"{file} was made by the engine {found.engine}, this by {job.engine}: another sound.",
            "yellow",
        )
    return job.engine != found.engine


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
