"""Errors as an assistant can act on them."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import ValidationError

from sa_ray.client import ApiError
from sa_ray.errors import SaRayError


@contextmanager
def told(url: str) -> Iterator[None]:
    """Raise ``ToolError`` for what fails within, with what to do about it."""
    try:
        yield
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False)
        lines = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in items)
        raise ToolError("\n".join(lines)) from error
    except ApiError as error:
        raise ToolError(f"{error.message}{_advice(error)}") from error
    except SaRayError as error:
        raise ToolError(error.message) from error
    except httpx.HTTPError as error:
        raise ToolError(
            f"The service at {url} could not be reached ({error}). Ask the user to start it "
            "(`sa-ray serve`), or to start `sa-ray mcp` with the right `--url`."
        ) from error
    except OSError as error:
        raise ToolError(f"{error.filename or 'The file'}: {error.strerror}.") from error


def _advice(error: ApiError) -> str:
    if error.status in (401, 403):
        return " The user sets the key by STABLE_AUDIO_API_KEY in the environment of `sa-ray mcp`."
    if error.retry_after_s is not None:
        return f" Try again after {error.retry_after_s} s."
    return ""
