"""Error responses: one shape for every HTTP error, whatever raised it."""

import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from sa_ray.contracts import (
    BatchRequest,
    ErrorBody,
    ErrorResponse,
    GenerationRequest,
    JobRequest,
)
from sa_ray.errors import (
    InvalidRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    SaRayError,
)
from sa_ray.serving.metrics import REFUSALS
from sa_ray.serving.request_bounds import CLIENT_ID, is_sound_id

logger = logging.getLogger(__name__)

MAX_ERRORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How errors look at the paths of another API that is spoken here."""

    paths: re.Pattern[str]
    """Matches them whole, under any prefix."""
    status: Callable[[int], int]
    """Returns the status there for one of ours."""
    write: Callable[[ErrorBody, int], BaseModel]
    """Returns the body for ours and the status there."""


def install_error_handlers(app: FastAPI, shapes: Sequence[ErrorShape] = ()) -> None:
    """``shapes``: of the paths where errors do not have the shape of all others."""
    app.state.error_shapes = shapes
    app.add_exception_handler(SaRayError, _on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)


def responses(*kinds: type[SaRayError]) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI entries for the errors that a route can answer with."""
    documented: dict[int | str, dict[str, Any]] = {}
    every: tuple[type[SaRayError], ...] = (*kinds, SaRayError)
    for kind in every:
        documented[kind.status] = {
            "model": ErrorResponse,
            "description": HTTPStatus(kind.status).phrase,
        }
    return documented


PASSING = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

RETRY_AFTER_S = 5
"""Seconds that clients are told to wait where the error does not know better: a store is away."""


def request_ids(request: Request) -> dict[str, str]:
    """Return the request's ids, for the log: ours, and the client's if it gave a sound one.

    Serve takes ours from the client where nothing stands in front of its proxy.
    """
    headers = {"request_id": "x-request-id", "client_request_id": CLIENT_ID.decode()}
    given = {name: request.headers.get(header, "") for name, header in headers.items()}
    return {name: text for name, text in given.items() if is_sound_id(text)}


def error_body(error: SaRayError, request: Request) -> ErrorBody:
    """Return what is told of ``error``, and not what it says of hosts and folders."""
    return ErrorBody(
        code=error.code,
        message=error.public_message,
        # Of a store it is a setting.
        param=error.param if error.told is None else None,
        request_id=request_ids(request).get("request_id", ""),
    )


def retry_after_of(error: SaRayError) -> int | None:
    """Return the seconds after which to try again; None: that is of no use."""
    if error.retry_after_s is None and error.status in PASSING:
        return RETRY_AFTER_S
    return error.retry_after_s


def error_response(error: SaRayError, request: Request) -> JSONResponse:
    REFUSALS.add(code=error.code, status=str(error.status))
    told, status = error_body(error, request), error.status
    body: BaseModel = ErrorResponse(error=told)
    if shape := _shape_at(request):
        status = shape.status(status)
        body = shape.write(told, status)
    retry_after_s = retry_after_of(error)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def _shape_at(request: Request) -> ErrorShape | None:
    # Middleware answers before any route is known, and so goes by the path.
    state = request.app.state if "app" in request.scope else None
    shapes: Sequence[ErrorShape] = getattr(state, "error_shapes", ())
    return next((one for one in shapes if one.paths.fullmatch(request.scope["path"])), None)


async def _on_own_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, SaRayError):
        raise error
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.told:
        logger.error("%s %s: %s", request.method, request.url.path, error.message)
    return error_response(error, request)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path
    own: SaRayError
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            own = NotFoundError(f"There is nothing at {path}. GET /docs lists what there is.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            own = MethodNotAllowedError(f"{path} does not take {request.method}.")
        case _:
            own = MalformedRequestError("The body could not be read. Send one JSON object.")
    response = error_response(own, request)
    response.headers.update(error.headers or {})
    return response


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    field = request.scope["route"].body_field
    body = field.field_info.annotation if field else GenerationRequest
    return error_response(describe_invalid(error.errors(), body), request)


def describe_unfit(
    error: ValidationError, body: type[BaseModel], names: Mapping[str, str] | None = None
) -> SaRayError:
    """Do as ``describe_invalid`` does for what was checked apart from FastAPI.

    ``names``: what the client calls fields, where that is another name than ours.
    """
    names = names or {}
    return describe_invalid(
        [
            {**one, "loc": ("body", *(names.get(str(part), part) for part in one["loc"]))}
            for one in error.errors(include_url=False)
        ],
        body,
    )


def describe_invalid(errors: Sequence[Any], body: type[BaseModel]) -> SaRayError:
    """Turn pydantic's findings into one error that names each field, its limit and the fix.

    ``body`` is what the request should have held.
    """
    if any(item["type"] == "json_invalid" for item in errors):
        return MalformedRequestError("The body is not valid JSON. Send one JSON object.")
    fields = [_field(item) for item in errors]
    lines = [
        f"{field}: {_explain(item, field, body)}" if field else _explain(item, field, body)
        for item, field in zip(errors[:MAX_ERRORS_SHOWN], fields, strict=False)
    ]
    return InvalidRequestError("; ".join(lines), param=fields[0] or None)


def _field(item: dict[str, Any]) -> str:
    place = [str(part) for part in item["loc"][1:]]
    return ".".join(place)[:100]


def _explain(item: dict[str, Any], field: str, body: type[BaseModel]) -> str:
    message: str = item["msg"]
    if item["type"] == "extra_forbidden":
        return _unknown(field, body)
    if not field and item["type"] in (
        "missing",
        "model_attributes_type",
        "model_type",
        "dict_type",
    ):
        return "The body must be one JSON object."
    return message[:1].lower() + message[1:]


def _unknown(field: str, body: type[BaseModel]) -> str:
    if "." in field:
        return "unknown field; leave it out"
    own = issubclass(body, GenerationRequest | BatchRequest)
    names = JobRequest.model_fields if own else body.model_fields
    close = difflib.get_close_matches(_plain(field), names, n=1)
    if not close:
        return f"unknown field; leave it out. The fields are {', '.join(body.model_fields)}"
    if close[0] not in body.model_fields:
        return f"unknown field; only POST /jobs takes {close[0]}. Leave it out"
    return f"unknown field, did you mean {close[0]}?"


def _plain(field: str) -> str:
    """Return ``field`` as fields are written here, whatever another language does."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", field).lower()
