"""``sa-ray generate``: clips, edits and loops, by a running service."""

from pathlib import Path
from typing import Annotated

import typer

from sa_ray.cli.console import console, service_address
from sa_ray.cli.jobs import JobProgress, format_of, print_warning, run_job
from sa_ray.client import Client
from sa_ray.contracts import GenerationRequest


def generate(
    prompt: Annotated[str, typer.Argument(help="What to hear.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Ends in .wav, .flac, .mp3 or .ogg.")
    ] = Path("clip.wav"),
    n: Annotated[
        int | None,
        typer.Option("-n", help="Clips to make; several are called clip-1.wav and so on."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="small-sfx, small-music or medium.")] = None,
    duration: Annotated[
        float | None,
        typer.Option(help="Seconds. Default: 7, or the length of what is edited."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first clip. Default: one is drawn.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", exists=True, dir_okay=False, help="Make the clip from this file."),
    ] = None,
    noise_level: Annotated[
        float | None, typer.Option(help="With --init: 0 leaves it as it is, 1 nothing of it.")
    ] = None,
    inpaint: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Make parts of this file anew."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(help="With --inpaint: START-END in seconds, as 1.5-3; may be repeated."),
    ] = None,
    continue_: Annotated[
        Path | None,
        typer.Option("--continue", exists=True, dir_okay=False, help="Go on from this file."),
    ] = None,
    intro: Annotated[
        float | None, typer.Option(help="With --continue: seconds of new sound before it.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(help="An adapter, as NAME or NAME:STRENGTH; may be repeated."),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="The end goes over into the start.")] = False,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://localhost:8000",
) -> None:
    """Have a running service make clips, edits of a file of yours, or loops; tell their seeds."""
    files = {"init_audio": init, "inpaint_audio": inpaint, "continue_audio": continue_}
    fields = {
        "n": n,
        "model": model,
        "duration": duration,
        "steps": steps,
        "seed": seed,
        "init_noise_level": noise_level,
        "regions": [_span(text) for text in region] if region else None,
        "intro": intro,
        "loras": [_adapter(text) for text in lora] if lora else None,
        "loop": loop or None,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    with Client(service_address(url)) as client, JobProgress("sending") as progress:
        for name, file in files.items():
            if file is not None:
                given[name] = client.upload(file).id
        request = GenerationRequest.model_validate(
            {"prompt": prompt, "format": format_of(output), **given}
        )
        job, paths = run_job(client, request, output, progress.show)
    for path, made in zip(paths, job.results, strict=True):
        typer.echo(path)
        console.print(f"seed {made.seed}")
    print_warning(job)


def _span(text: str) -> dict[str, float]:
    start, _, end = text.partition("-")
    try:
        return {"start": float(start), "end": float(end)}
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no region: write START-END in seconds, as 1.5-3.", param_hint="--region"
        ) from None


def _adapter(text: str) -> dict[str, str | float]:
    name, colon, strength = text.partition(":")
    try:
        return {"name": name, "strength": float(strength)} if colon else {"name": name}
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no adapter: write NAME or NAME:STRENGTH, as rain:0.8.",
            param_hint="--lora",
        ) from None
