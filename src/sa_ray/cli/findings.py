"""Lines that say what works, or what does not and how to mend it."""

import sys
from dataclasses import dataclass

import typer
from rich.markup import escape

from sa_ray.cli.console import console


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``said`` is what works, or what does not and how to mend it."""

    name: str
    ok: bool
    said: str
    seconds: float = 0.0
    """How long it took to find."""


def print_finding(finding: Finding) -> None:
    """Print the line; in a pipe or file, between tabs."""
    mark = "ok" if finding.ok else "FAILS"
    if sys.stdout.isatty():
        colour = "green" if finding.ok else "red"
        console.print(f"[{colour}]{mark:>5}[/] {finding.name:8} {escape(finding.said)}")
    else:
        typer.echo(f"{mark}\t{finding.name}\t{finding.said}")
