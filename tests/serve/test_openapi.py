"""Requests generated from the API's own description, against the running service."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sa_ray.settings.edge import COMPATIBLE_APIS
from tests.support.service import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES_PER_OPERATION = 20
EXAMPLES_ELSEWHERE = 10
"""Of other APIs' operations, which are forms of our own."""

CHEAP = {"duration": 0.05, "steps": 1}
CHEAP_ELSEWHERE = {
    "/v1/sound-generation": {"duration_seconds": 0.05},
    "/v1/music": {"music_length_ms": 50},
    "/v1/audio/generate": {"audio_length": 0.05, "num_inference_steps": 1},
    "/v2beta/": {"duration": 0.05, "steps": 1},
}
"""The same of other APIs, by the start of the path. There clips are long that say nothing of it."""


def cheap(body: Any, path: str = "") -> Any:
    """Keep what is asked, and make it cost little where it is a valid request."""
    if not isinstance(body, dict):
        return body
    for start, cheaper in CHEAP_ELSEWHERE.items():
        if path.startswith(start):
            return {**body, **cheaper}
    if isinstance(body.get("requests"), list):
        return {**body, "requests": [cheap(one) for one in body["requests"]]}
    if not {"prompt", "input"} & body.keys():
        return body
    return {**body, **{key: value for key, value in CHEAP.items() if key in body}}


def test_no_request_makes_the_service_fail_or_answer_what_it_does_not_document(
    service: Service,
) -> None:
    schema = schemathesis.openapi.from_url(f"{service.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 29

    for operation in operations:
        own = not set(operation.tags or ()) & set(COMPATIBLE_APIS)
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and not (operation.body or operation.query):
                continue  # Any text is a job id to ask for: nothing here can be malformed.
            cases = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=EXAMPLES_PER_OPERATION if own else EXAMPLES_ELSEWHERE,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases)
            def check(case: schemathesis.Case) -> None:
                case.body = cheap(case.body, case.path)
                case.call_and_validate(checks=CHECKS)

            check()
