"""``sa-ray models``: the models of a running service."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sa_ray.cli.console import service_address
from sa_ray.client import Client

COLUMNS = ("model", "state", "longest clip", "steps", "guidance", "")


def models(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = "http://localhost:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """List the models of a running service. In a pipe or file: one on a line, between tabs."""
    with Client(service_address(url)) as client:
        told = client.models()
    if as_json:
        typer.echo(told.model_dump_json(indent=2))
        return
    rows = [
        [
            f"{one.id}{' (default)' if one.id == told.default else ''}",
            one.state,
            f"{one.max_duration_seconds:g} s",
            str(one.default_steps),
            f"{one.default_cfg_scale:g}",
            one.message or "",
        ]
        for one in told.models
    ]
    if not sys.stdout.isatty():
        typer.echo("\n".join("\t".join(row) for row in rows))
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
