"""What becomes of a request's webhook: what is stored, and what makes a repeat."""

import base64
import json
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from sa_ray.contracts import JobRequest
from sa_ray.errors import InvalidRequestError
from sa_ray.jobs.webhook_secrets import WebhookSecrets
from sa_ray.serving.ingress.errors import describe_invalid
from sa_ray.serving.ingress.routes.job_options import job_options

URL = "https://example.org/hook"


def secret(letter: str, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(letter.encode() * size).decode()


OPERATOR = WebhookSecrets([secret("o")])
MINE = secret("m")


def fingerprint(
    secrets: str | Sequence[str] | None, operator: WebhookSecrets = OPERATOR
) -> str | None:
    request = JobRequest.model_validate(
        {"prompt": "rain", "webhook_url": URL, "webhook_secret": secrets}
    )
    return job_options(request, "key", operator).fingerprint


def test_a_secret_is_stored_sealed_and_shown_nowhere() -> None:
    request = JobRequest.model_validate(
        {"prompt": "rain", "webhook_url": URL, "webhook_secret": MINE}
    )

    options = job_options(request, "key", OPERATOR)

    assert options.sealed_secrets is not None
    assert OPERATOR.opened(URL, options.sealed_secrets) == (MINE,)
    for shown in (repr(options), repr(request), request.model_dump_json(), str(options)):
        assert MINE.removeprefix("whsec_") not in shown


def test_a_repeat_has_the_same_secrets() -> None:
    assert fingerprint(MINE) == fingerprint([MINE])
    assert fingerprint(MINE) == fingerprint(MINE, WebhookSecrets([secret("n"), secret("o")]))

    others = (None, secret("x"), [MINE, secret("x")])
    assert fingerprint(MINE) not in [fingerprint(other) for other in others]


def test_a_request_without_a_secret_is_told_from_others_as_by_earlier_releases() -> None:
    before = "41c31702546b853d29fed8724a44db443aae339935ef96a571f3d728ab51d918"

    assert fingerprint(None) == before


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("plain", "whsec_ followed by 24 to 64"),
        ("", "whsec_"),
        (7, "whsec_"),
        ([7], "whsec_"),
        ({}, "whsec_"),
        (secret("a", 23), "24 to 64"),
        (secret("a", 65), "24 to 64"),
        ("whsec_" + "\u00fc" * 32, "whsec_"),
        (MINE.replace("whsec_", "whsk_"), "whsec_"),
        (MINE + " ", "whsec_"),
        (["short", MINE], "whsec_"),
        ([], "1 to 2"),
        ([MINE] * 3, "1 to 2"),
    ],
)
def test_a_bad_secret_is_refused_by_name_and_not_repeated(given: object, hint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        JobRequest.model_validate({"prompt": "rain", "webhook_url": URL, "webhook_secret": given})

    errors = [{**one, "loc": ("body", *one["loc"])} for one in refused.value.errors()]
    error = describe_invalid(errors, JobRequest)
    assert (error.status, error.param) == (422, "webhook_secret")
    assert hint in error.message
    for text in given if isinstance(given, list) else [given]:
        assert len(str(text)) < 10 or str(text) not in error.message


@pytest.mark.parametrize(
    ("fields", "webhooks", "param"),
    [
        ({"webhook_secret": MINE}, OPERATOR, "webhook_secret"),
        ({"webhook_secret": MINE}, None, "webhook_secret"),
        ({"webhook_secret": MINE, "webhook_url": URL}, None, "webhook_url"),
        ({"webhook_url": URL}, None, "webhook_url"),
        ({"webhook_secret": MINE, "webhook_url": "https://a..b/"}, OPERATOR, "webhook_url"),
    ],
)
def test_a_webhook_that_can_never_be_called_is_refused(
    fields: dict[str, str], webhooks: WebhookSecrets | None, param: str
) -> None:
    request = JobRequest.model_validate({"prompt": "rain", **fields})

    with pytest.raises(InvalidRequestError) as refused:
        job_options(request, None, webhooks)

    assert refused.value.param == param
    assert MINE not in refused.value.message


def test_the_schema_calls_the_secret_one_that_is_only_written() -> None:
    schema = JobRequest.model_json_schema()["properties"]["webhook_secret"]

    [secrets, null] = schema["anyOf"]
    assert null == {"type": "null"}
    assert secrets["writeOnly"]
    assert {form["type"] for form in secrets["anyOf"]} == {"string", "array"}
    assert "whsec_A" not in json.dumps(schema)


@pytest.mark.parametrize("field", [{"duration": 7.0}, {"normalize": "limit"}])
def test_of_an_edit_a_field_left_out_is_not_its_default(field: dict[str, object]) -> None:
    """Left out, it is the upload's length, or ``none``."""
    edit = {"prompt": "rain", "inpaint_audio": "a" * 64, "regions": [{"start": 0.0, "end": 1.0}]}

    def made(body: dict[str, object]) -> str | None:
        return job_options(JobRequest.model_validate(body), "key", None).fingerprint

    assert made(edit | field) != made(edit)
    assert made({"prompt": "rain"} | field) == made({"prompt": "rain"})
