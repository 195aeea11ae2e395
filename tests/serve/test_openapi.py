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

from tests.support.service import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES_PER_OPERATION = 20
CHEAP = {"duration": 0.05, "steps": 1}
CHEAP_ELSEWHERE = {
    "duration_seconds": 0.05, "music_length_ms": 50, "audio_length": 0.05, "num_inference_steps": 1,
}  # fmt: skip
"""The same in the names of other APIs."""


def cheap(body: Any) -> Any:
    """Keep what is asked, and make it cost little where it is a valid request."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("requests"), list):
        return {**body, "requests": [cheap(one) for one in body["requests"]]}
    if not {"prompt", "input", "text"} & body.keys():
        return body
    cheaper = (CHEAP | CHEAP_ELSEWHERE).items()
    return {**body, **{key: value for key, value in cheaper if key in body}}


def test_no_request_makes_the_service_fail_or_answer_what_it_does_not_document(
    service: Service,
) -> None:
    schema = schemathesis.openapi.from_url(f"{service.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 26

    for operation in operations:
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and not (operation.body or operation.query):
                continue  # Any text is a job id to ask for: nothing here can be malformed.
            cases = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=EXAMPLES_PER_OPERATION,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases)
            def check(case: schemathesis.Case) -> None:
                case.body = cheap(case.body)
                case.call_and_validate(checks=CHECKS)

            check()
