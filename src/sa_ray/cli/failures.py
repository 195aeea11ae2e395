"""How a command ends: errors in words or as JSON, and the exit status."""

import signal
import sys
from typing import Any, Final

import httpx
import typer
from pydantic import ValidationError
from pydantic_core import to_json

from sa_ray.cli.console import say
from sa_ray.client import ApiError
from sa_ray.errors import InvalidRequestError, SaRayError

FAILED: Final = 1
USAGE: Final = 2
"""Options, arguments or fields that cannot be used: nothing was done."""
INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit status after a Ctrl-C, as shells have it."""

Fault = dict[str, str | None]
"""Of an error: ``code``, ``message``, ``param`` and ``request_id``, as the API tells them."""


def run_command(command: typer.Typer) -> None:
    """Run what the command line says, and end the process.

    With ``--json``, an error is a line of JSON, the last on standard error, in the shape of the
    API's: ``{"error": {...}}``.
    """
    as_json = "--json" in sys.argv[1:]
    try:
        # By itself Typer tells wrong usage in words.
        status = command(standalone_mode=not as_json) or 0
    except SystemExit as ended:
        status = ended.code
    except typer.TyperException as error:
        _tell(as_json, [_fault("usage", error.format_message())])
        status = USAGE
    except httpx.InvalidURL as error:
        _tell(as_json, [_fault("usage", f"The address cannot be used: {error}")])
        status = USAGE
    except (SaRayError, httpx.HTTPError, ValidationError) as error:
        _tell(as_json, faults_of(error))
        status = USAGE if isinstance(error, ValidationError) else FAILED
    except OSError as error:
        place = error.filename or "A file cannot be read or written"  # as on a full disk
        _tell(as_json, [_fault("file", f"{place}: {error.strerror or error}")])
        status = FAILED
    if status == INTERRUPTED:
        _tell(as_json, [_fault("interrupted", "Interrupted.")])
    raise SystemExit(status)


def faults_of(error: SaRayError | httpx.HTTPError | ValidationError) -> list[Fault]:
    """Return what to tell of the error: of fields that are wrong, each."""
    if isinstance(error, ValidationError):
        return [_of_field(item) for item in error.errors(include_url=False, include_input=False)]
    if isinstance(error, httpx.HTTPError):
        return [_fault("unreachable", f"The service could not be reached: {error}")]
    request_id = error.request_id if isinstance(error, ApiError) else None
    return [_fault(error.code, error.message, error.param, request_id)]


def _of_field(item: Any) -> Fault:
    where = ".".join(map(str, item["loc"]))
    return _fault(InvalidRequestError.code, f"{where}: {item['msg']}", where)


def _fault(
    code: str, message: str, param: str | None = None, request_id: str | None = None
) -> Fault:
    return {"code": code, "message": message, "param": param, "request_id": request_id}


def _tell(as_json: bool, faults: list[Fault]) -> None:
    if as_json:
        # Each in a line: programs read the last.
        sys.stderr.write("".join(to_json({"error": one}).decode() + "\n" for one in faults))
    else:
        for one in faults:
            say(str(one["message"]), "red")
