"""What a request costs is bounded by its size, whatever is in it."""

import pytest
from pydantic import ValidationError

from sa_ray.contracts import GenerationRequest, JobRequest
from sa_ray.contracts.asked import MAX_UNKNOWN_FIELDS
from sa_ray.engines.procedural.prompt import read
from sa_ray.serving.ingress.errors import describe_invalid


@pytest.mark.parametrize("kind", [GenerationRequest, JobRequest])
def test_of_many_unknown_fields_only_the_first_are_looked_at(kind: type[GenerationRequest]) -> None:
    unknown = {f"{number}promt": number for number in range(100_000)}

    with pytest.raises(ValidationError) as refused:
        kind.model_validate({"steps": 0} | unknown | {"prompt": ""})

    errors = refused.value.errors()
    looked_at = list(unknown)[:MAX_UNKNOWN_FIELDS]
    assert [error["loc"][0] for error in errors] == ["prompt", "steps", *looked_at]


def test_a_request_with_every_field_and_one_more_names_that_one() -> None:
    every = {name: field.get_default() for name, field in JobRequest.model_fields.items()}

    with pytest.raises(ValidationError) as refused:
        JobRequest.model_validate(every | {"prompt": "rain", "lenght": 3})

    [error] = refused.value.errors()
    located = {**error, "loc": ("body", *error["loc"])}
    assert describe_invalid([located], JobRequest).param == "lenght"
    assert JobRequest.model_validate(every | {"prompt": "rain"}).prompt == "rain"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("prompt", "bpm", "key"),
    [
        ("techno at 120" + " " * 4_000_000 + "- \t\n bpm", 120.0, None),
        ("techno at 120" + " \n" * 2_000_000 + "beats", None, None),
        ("piano in a" + "\u2003" * 4_000_000 + "flat minor", None, 8),
        ("piano in a " + "# " * 2_000_000 + "minor", None, None),
        ("120." + "9" * 4_000_000, None, None),
        ("120 - " * 60_000, None, None),
    ],
    ids=["tempo", "no tempo", "key", "no key", "fraction", "numbers"],
)
def test_a_prompt_of_any_length_is_read_in_linear_time(
    prompt: str, bpm: float | None, key: int | None
) -> None:
    """In quadratic time, these would take hours."""
    plan = read(prompt)

    assert plan.bpm == bpm
    assert (plan.key.tonic if plan.key else None) == key
