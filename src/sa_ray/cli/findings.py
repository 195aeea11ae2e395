"""Lines that say what works, or what does not and how to mend it."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.markup import escape

from sa_ray.cli.console import print_result


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``said`` is what works, or what does not and how to mend it."""

    name: str
    ok: bool
    said: str
    seconds: float = 0.0
    """How long it took to find."""


def report(as_json: bool, findings: Iterable[Finding], **more: str) -> None:
    """Print each as soon as it is found, or all and ``more`` as JSON; end with 1 if one is not
    ok."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            _print(finding)
    print_result(as_json, {**more, "checks": found}, lambda: None)
    if not all(one.ok for one in found):
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    """Print the line; in a pipe or file, between tabs."""
    mark = "ok" if finding.ok else "FAILS"
    if sys.stdout.isatty():
        colour = "green" if finding.ok else "red"
        Console().print(f"[{colour}]{mark:>5}[/] {finding.name:8} {escape(finding.said)}")
    else:
        typer.echo(f"{mark}\t{finding.name}\t{finding.said}")
