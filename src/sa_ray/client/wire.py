"""Read the answers of the HTTP API."""

import httpx

from sa_ray.errors import SaRayError


class ApiError(SaRayError):
    """The service answered with an error; ``status`` and ``code`` are what it said."""

    def __init__(self, message: str, *, status: int, code: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status  # type: ignore[misc]
        self.code = code  # type: ignore[misc]


def raise_for_error(response: httpx.Response) -> None:
    """Raise ``ApiError`` for an error answer whose body has been read."""
    if not response.is_error:
        return
    try:
        body = response.json()["error"]
        message, code, param = body["message"], body["code"], body["param"]
    except (ValueError, KeyError, TypeError):
        message, code, param = response.text[:500] or response.reason_phrase, "http_error", None
    raise ApiError(message, status=response.status_code, code=code, param=param)
