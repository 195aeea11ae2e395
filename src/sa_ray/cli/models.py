"""``sa-ray models``: the models of a running service."""

from typing import Annotated

import typer

from sa_ray.cli.console import print_table, service_address
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
    print_table(COLUMNS, rows)
