"""The command line: ``sa-ray`` and ``stable-audio-api``, which the Stable Audio API server had."""

from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.markup import escape

from sa_ray import __version__, local
from sa_ray.cli.batch import batch
from sa_ray.cli.check import check
from sa_ray.cli.console import console, print_table
from sa_ray.cli.demo import demo
from sa_ray.cli.doctor import doctor
from sa_ray.cli.generate import generate
from sa_ray.cli.job_commands import app as jobs
from sa_ray.cli.keys import keys
from sa_ray.cli.loras import loras
from sa_ray.cli.models import models
from sa_ray.cli.regenerate import regenerate
from sa_ray.errors import SaRayError
from sa_ray.settings import load_settings
from sa_ray.settings.reference import effective_values, markdown

COLUMNS = ("setting", "value", "environment variable")

app = typer.Typer(
    help="Stable Audio 3 as a service on Ray Serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


app.command()(demo)
app.command()(generate)
app.command()(batch)
app.add_typer(jobs, name="jobs")
app.command()(models)
app.command()(check)
app.command()(doctor)
app.command()(regenerate)
app.command()(loras)
app.add_typer(keys, name="keys")


@app.command()
def config(
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/configuration.md instead.")
    ] = False,
) -> None:
    """Print the effective settings, secrets masked, and where each comes from.

    In a pipe or file: one on a line, between tabs.
    """
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    print_table(COLUMNS, list(effective_values(load_settings())))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Serve HTTP until interrupted, on a Ray of its own that nobody else can reach.

    Starts it again if it breaks; its jobs are kept. Ends with 1 if that does not help.
    """
    raise typer.Exit(local.serve(host, port))


def main() -> None:
    _run(app)


def stable_audio_api() -> None:
    """The Stable Audio API server's command: ``stable-audio-api --host 0.0.0.0 --port 8000``."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(serve)
    _run(single)


def _run(command: typer.Typer) -> None:
    try:
        command()
    except SaRayError as error:
        console.print(f"[red]{escape(error.message)}[/]")
        raise SystemExit(1) from None
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            where = ".".join(map(str, item["loc"]))
            console.print(f"[red]{escape(where + ': ' + item['msg'])}[/]")
        raise SystemExit(2) from None
    except httpx.HTTPError as error:
        console.print(f"[red]{escape(f'The service could not be reached: {error}')}[/]")
        raise SystemExit(1) from None
