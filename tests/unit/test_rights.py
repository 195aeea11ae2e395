"""What a key may name in a request."""

from typing import Any

import pytest

from sa_ray.contracts import GenerationRequest, JobRequest
from sa_ray.contracts.access import ANYBODY, Caller, Rights
from sa_ray.errors import NotPermittedError
from sa_ray.serving.ingress.rights import require_rights

KEPT = Caller(
    name="alice",
    scopes=frozenset({"generate"}),
    rights=Rights(
        models=frozenset({"medium"}), priorities=frozenset({"normal", "low"}), webhooks=False
    ),
)
HOOK = "https://hooks.example/done"


@pytest.mark.parametrize(
    ("fields", "model", "param"),
    [
        ({}, "small-sfx", "model"),
        ({"priority": "high"}, "medium", "priority"),
        ({"webhook_url": HOOK}, "medium", "webhook_url"),
    ],
)
def test_what_a_key_may_not_name_is_refused_by_its_field(
    fields: dict[str, Any], model: Any, param: str
) -> None:
    request = JobRequest(prompt="rain", **fields)

    with pytest.raises(NotPermittedError, match=f"^{param}: the key alice") as refused:
        require_rights(KEPT, request, model)

    assert refused.value.param == param
    require_rights(ANYBODY, request, model)


def test_the_rest_is_let_pass() -> None:
    require_rights(KEPT, JobRequest(prompt="rain", priority="low"), "medium")
    require_rights(KEPT, GenerationRequest(prompt="rain"), "medium")
