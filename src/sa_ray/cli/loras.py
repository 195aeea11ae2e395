"""``sa-ray loras``: the adapters that requests to a running service can name."""

from typing import Annotated

import typer

from sa_ray.cli.connecting import connect
from sa_ray.cli.console import HERE, AsJson, print_result, print_table

COLUMNS = ("name", "model", "kind", "rank", "MB", "sha256")


def loras(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = HERE,
    model: Annotated[
        str | None, typer.Option(help="Only those of small-sfx, small-music or medium.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the adapters (LoRA) that requests can name. In a pipe or file: one on a line, between
    tabs."""
    with connect(url) as client:
        found = client.loras(model)
    rows = [
        (one.name, one.model, one.kind, str(one.rank), f"{one.size_bytes / 1e6:.1f}", one.sha256)
        for one in found.loras
    ]
    print_result(as_json, found, lambda: print_table(COLUMNS, rows))
