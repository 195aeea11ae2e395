"""Say in the OpenAPI document which routes need a key, and how it is sent."""

from typing import Any, Final

from fastapi import FastAPI

from sa_ray.contracts import ErrorResponse
from sa_ray.serving.ingress.route_scopes import needed_for

SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of this service."},
    "xi-api-key": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
}

REFUSALS: Final = {
    "401": "No key, or one that is not valid.",
    "403": "The key has not the scope for this, or may not name what the request names.",
}


def show_security(app: FastAPI) -> None:
    """Add the security schemes, and what each route needs, to the document of ``app``."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        is_made = app.openapi_schema is not None
        document = make()
        return document if is_made else _secured(document)

    app.openapi = openapi  # type: ignore[method-assign]


def _secured(document: dict[str, Any]) -> dict[str, Any]:
    document["components"]["securitySchemes"] = SCHEMES
    schema = {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = needed_for(method.upper(), path)
            if need == "nothing":
                continue
            operation["security"] = [{name: []} for name in SCHEMES]
            scope = "admin" if need is None else need
            if scope != "any key":
                operation["x-scope"] = scope
            for status, told in REFUSALS.items():
                content = {"application/json": {"schema": schema}}
                operation["responses"].setdefault(status, {"description": told, "content": content})
    return document
