"""``sa-ray models``: the models of a running service."""

from typing import Annotated

import typer

from sa_ray.cli.connecting import connect
from sa_ray.cli.console import HERE, AsJson, print_result, print_table

COLUMNS = ("model", "state", "longest clip", "steps", "guidance", "")


def models(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = HERE,
    as_json: AsJson = False,
) -> None:
    """List the models of a running service. In a pipe or file: one on a line, between tabs."""
    with connect(url) as client:
        told = client.models()
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
    print_result(as_json, told, lambda: print_table(COLUMNS, rows))
