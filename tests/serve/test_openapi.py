"""Requests generated from the API's own description, against the running service."""

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
EXAMPLES_PER_OPERATION = 30
CHEAP = {"duration": 0.05, "steps": 1}


def test_no_request_makes_the_service_fail_or_answer_what_it_does_not_document(
    service: Service,
) -> None:
    schema = schemathesis.openapi.from_url(f"{service.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 14

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
                if isinstance(case.body, dict) and "prompt" in case.body:
                    case.body = {**case.body, **{k: v for k, v in CHEAP.items() if k in case.body}}
                case.call_and_validate(checks=CHECKS)

            check()
