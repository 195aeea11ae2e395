"""``sa-ray generate``: clips, edits and loops, by a running service."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sa_ray.cli.connecting import connect
from sa_ray.cli.console import HERE, STREAM, AsJson, Url, say
from sa_ray.cli.jobs import (
    UNSENT,
    JobProgress,
    destination,
    format_of,
    run_job,
    send,
    tell_made,
)
from sa_ray.contracts import AudioFormat, GenerationRequest


def generate(
    prompt: Annotated[str, typer.Argument(help="What to hear; `-`: what standard input says.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Ends in .wav, .flac, .mp3 or .ogg; `-`: to standard output."
        ),
    ] = Path("clip.wav"),
    format_: Annotated[
        AudioFormat | None, typer.Option("--format", help="With `-o -`. Default: wav.")
    ] = None,
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
    as_json: AsJson = False,
    url: Url = HERE,
) -> None:
    """Have a running service make clips, edits of a file of yours, or loops; tell their seeds."""
    sources = {"init_audio": init, "inpaint_audio": inpaint, "continue_audio": continue_}
    files = {name: file for name, file in sources.items() if file is not None}
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
    if prompt == str(STREAM):
        prompt = sys.stdin.read()
    given |= {"prompt": prompt, "format": format_of(output, format_)}
    request = GenerationRequest.model_validate(given | dict.fromkeys(files, UNSENT))
    with (
        destination(output, as_json, n or 1) as path,
        connect(url) as client,
        JobProgress("sending") as progress,
    ):
        request = request.model_copy(update=send(client, files))
        job, paths = run_job(client, request, path, progress.show)
    for made in job.results:
        say(f"seed {made.seed}")
    tell_made(as_json, job, paths, output)


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
