"""``sa-ray mcp``: tools for assistants, over standard input and output."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from sa_ray.cli.connecting import service_address, without_password
from sa_ray.cli.console import HERE, Url, say
from sa_ray.cli.failures import INTERRUPTED
from sa_ray.client import Client
from sa_ray.errors import ConfigurationError

RETRY_S: Final = 20.0
"""How long a service that is busy or away is asked again: an assistant is told of trouble, and
soon."""


def mcp(
    out: Annotated[
        Path, typer.Option("--out", "-o", file_okay=False, help="Folder of the files it makes.")
    ] = Path(),
    read: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Another folder whose files may be edited; may be repeated.",
        ),
    ] = None,
    url: Url = HERE,
) -> None:
    """Serve tools for assistants (Model Context Protocol) on standard input and output.

    They make and edit sounds with a running service, and write files into one folder, never over
    others. The key of a service with keys is that of STABLE_AUDIO_API_KEY.
    """
    try:
        from sa_ray.mcp import Folder, build_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise ConfigurationError(
            "`sa-ray mcp` needs the extra `mcp`: `pip install 'sa-ray[mcp]'`, or in a checkout "
            "`uv sync --extra mcp`."
        ) from None
    address = service_address(url)
    signal.signal(signal.SIGINT, _end)
    if sys.stdin.isatty():
        say("Waiting for an assistant's program on standard input. Ctrl-C ends this.")
    with Client(address, retry_s=RETRY_S) as client:
        build_server(client, without_password(address), Folder(out, read or [])).run()


def _end(_number: int, _frame: FrameType | None) -> None:
    """End at once: Python would wait for the thread that reads standard input."""
    say("Interrupted.", "red")
    os._exit(INTERRUPTED)
