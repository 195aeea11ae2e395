"""``sa-ray loras``: the adapters that requests to a running service can name."""

from typing import Annotated

import typer

from sa_ray.cli.console import print_table, service_address
from sa_ray.client import Client

COLUMNS = ("name", "model", "kind", "rank", "MB", "sha256")


def loras(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = "http://localhost:8000",
    model: Annotated[
        str | None, typer.Option(help="Only those of small-sfx, small-music or medium.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with notes.")] = False,
) -> None:
    """List the adapters (LoRA) that requests can name. In a pipe or file: one on a line, between
    tabs."""
    with Client(service_address(url)) as client:
        found = client.loras(model)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    rows = [
        (one.name, one.model, one.kind, str(one.rank), f"{one.size_bytes / 1e6:.1f}", one.sha256)
        for one in found.loras
    ]
    print_table(COLUMNS, rows)
