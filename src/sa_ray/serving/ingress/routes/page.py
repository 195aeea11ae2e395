"""The web page, and the files that it is made of. It asks nothing but the public API."""

from typing import Annotated, Final

from fastapi import APIRouter, Header, Response

from sa_ray.errors import NotFoundError
from sa_ray.playground import INDEX, page_files

router = APIRouter(include_in_schema=False)

POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "media-src blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content-Security-Policy of the page: nothing from elsewhere, nothing inline, and no text
becomes HTML (trusted types). It plays what it has fetched, hence ``blob:``."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Browsers ask each time whether it is still the same: a deploy is seen at once, by all files.
    "Cache-Control": "no-cache",
}


@router.get("/")
async def page(if_none_match: Annotated[str, Header()] = "") -> Response:
    """The page."""
    return _file(INDEX, if_none_match)


@router.get("/playground/{name}")
async def part(name: str, if_none_match: Annotated[str, Header()] = "") -> Response:
    """A file that the page names."""
    return _file(name, if_none_match)


def _file(name: str, known: str) -> Response:
    found = page_files().get(name)
    if found is None:
        raise NotFoundError("The page has no file of this name. GET / answers with the page.")
    headers = HEADERS | {"ETag": f'"{found.digest}"'}
    if found.digest in known:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
