"""The terminal: standard error for words, so that output can be piped, and tables."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

console = Console(stderr=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; in a pipe or file, each row as a line between tabs, without its head."""
    if not sys.stdout.isatty():
        typer.echo("".join("\t".join(row) + "\n" for row in rows), nl=False)
        return
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def service_address(text: str) -> str:
    """Return the URL of a service, which may be given without its scheme."""
    return text if "://" in text else f"http://{text}"
