"""What an API of others is made of here, and what their request bodies share."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sa_ray.catalogue import VARIANTS, find_variant
from sa_ray.contracts import MEDIA_TYPES, VariantName
from sa_ray.errors import InvalidRequestError, SaRayError
from sa_ray.serving.ingress.errors import ErrorShape
from sa_ray.serving.ingress.routes.generation import AUDIO


@dataclass(frozen=True, slots=True)
class Format:
    """An API: its routes, and its errors on their paths."""

    router: APIRouter
    errors: ErrorShape


def paths(*ends: str) -> re.Pattern[str]:
    """Return what matches paths that are one of ``ends``, patterns, under any prefix."""
    return re.compile(rf"(?:/[^/]+)*(?:{'|'.join(ends)})/?", re.DOTALL)


class Refused:
    """Annotation of a field by which nothing can be honoured, but for ``allowed`` and null."""

    def __init__(self, reason: str, *allowed: object) -> None:
        """``reason``: why, and what to do."""
        self._reason = reason
        self._allowed = allowed

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        unless = f" unless {json.dumps(self._allowed[0])}" if self._allowed else ""
        return {**handler(schema), "description": f"Refused{unless}: {self._reason}."}

    def _check(self, value: object) -> object:
        if value is not None and value not in self._allowed:
            raise PydanticCustomError("refused", "{reason}", {"reason": self._reason})
        return value


def variant_named(
    name: str, theirs: Mapping[str, VariantName | None], field: str = "model"
) -> VariantName | None:
    """Return the variant that ``name`` stands for; None: the default one.

    Raises ``InvalidRequestError`` for names that are neither ``theirs`` nor ours.
    """
    if name in theirs:
        return theirs[name]
    found = find_variant(name)
    if found is None:
        raise InvalidRequestError(
            f"{field}: {name[:100]!r} is unknown. Choose one of {', '.join((*VARIANTS, *theirs))}.",
            param=field,
        )
    return found


def documented(
    shape: ErrorShape, model: type[BaseModel], *kinds: type[SaRayError]
) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI entries for the errors that a route of this shape can answer with."""
    every: tuple[type[SaRayError], ...] = (*kinds, SaRayError)
    statuses = {shape.status(kind.status) for kind in every}
    return {
        status: {"model": model, "description": HTTPStatus(status).phrase}
        for status in sorted(statuses)
    }


def audio_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entry of audio, also of ``media_types`` that are not ours."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    types = (*MEDIA_TYPES.values(), *media_types)
    ignored = {"description": "Fields that had no effect.", "schema": {"type": "string"}}
    return {
        200: AUDIO[200]
        | {
            "content": dict.fromkeys(types, binary),
            "headers": AUDIO[200]["headers"] | {"X-Ignored": ignored},
        }
    }
