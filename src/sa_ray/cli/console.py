"""The terminal: standard error, so that output can be piped."""

from rich.console import Console

console = Console(stderr=True)
