"""The command line: ``sa-ray`` and ``stable-audio-api``, which the Stable Audio API server had."""

import shlex
from typing import Annotated

import typer
from typer._completion_shared import Shells, get_completion_script

from sa_ray import __version__, local
from sa_ray.cli.batch import batch
from sa_ray.cli.check import check
from sa_ray.cli.console import AsJson, print_result, print_table
from sa_ray.cli.demo import demo
from sa_ray.cli.doctor import doctor
from sa_ray.cli.failures import run_command
from sa_ray.cli.generate import generate
from sa_ray.cli.job_commands import app as jobs
from sa_ray.cli.keys import keys
from sa_ray.cli.loras import loras
from sa_ray.cli.mcp import mcp
from sa_ray.cli.models import models
from sa_ray.cli.regenerate import regenerate
from sa_ray.errors import ConfigurationError
from sa_ray.serving.haproxy import CALLBACK, ray_environment
from sa_ray.settings import load_settings
from sa_ray.settings.reference import effective_values, markdown

COLUMNS = ("setting", "value", "environment variable")
FIELDS = ("setting", "value", "variable")

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
app.command()(mcp)


@app.command()
def config(
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/configuration.md instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the effective settings, secrets masked, and where each comes from.

    In a pipe or file: one on a line, between tabs.
    """
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    rows = list(effective_values(load_settings()))
    named = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    print_result(as_json, named, lambda: print_table(COLUMNS, rows))


@app.command("ray-env")
def ray_env(as_json: AsJson = False) -> None:
    """Print what the environment of each Ray node should hold, where `sa-ray serve` does not start
    Ray: `eval "$(sa-ray ray-env)"` before `ray start` or `serve run`."""
    try:
        variables = ray_environment()
    except ConfigurationError as error:
        typer.echo(error.message, err=True)
        variables = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK}
    lines = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    print_result(as_json, variables, lambda: typer.echo("\n".join(lines)))


@app.command()
def completion(
    shell: Annotated[Shells, typer.Argument(help="Whose.")],
) -> None:
    """Print the script that completes commands and options in a shell: for bash,
    `eval "$(sa-ray completion bash)"`."""
    typer.echo(
        get_completion_script(prog_name="sa-ray", complete_var="_SA_RAY_COMPLETE", shell=shell)
    )


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    print_result(as_json, {"version": __version__}, lambda: typer.echo(__version__))


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
    run_command(app)


def stable_audio_api() -> None:
    """The Stable Audio API server's command: ``stable-audio-api --host 0.0.0.0 --port 8000``."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command()(serve)
    run_command(single)
