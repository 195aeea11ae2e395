"""Results on standard output, as JSON where it is asked for; words on standard error."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic_core import to_json
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

console = Console(stderr=True)

STREAM: Final = Path("-")
"""Stands for standard output, or input."""

HERE: Final = "http://localhost:8000"

Url = Annotated[str, typer.Option(help="Address of the service.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead, of errors as well.")]


def say(text: str, style: str = "") -> None:
    """Print words on standard error. A line stays one, however narrow the terminal is."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_result(as_json: bool, result: object, plain: Callable[[], object]) -> None:
    """Print ``result`` as one document of JSON, or else do as ``plain`` does."""
    if as_json:
        typer.echo(to_json(result, indent=2).decode())
    else:
        plain()


def print_line(as_json: bool, result: object, plain: str) -> None:
    """Print one of several results, each as soon as it is there: a line of JSON, or ``plain``."""
    typer.echo(to_json(result).decode() if as_json else plain)


def on_one_line(text: str) -> str:
    """Return ``text`` without what would begin a line, or tell a terminal to do something."""
    return "".join(char if char.isprintable() else " " for char in text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; in a pipe or file, each row as a line between tabs, without its head."""
    rows = [[on_one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        typer.echo("".join("\t".join(row) + "\n" for row in rows), nl=False)
        return
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
