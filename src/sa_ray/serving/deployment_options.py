"""What Serve is told of a variant: how to scale it, route to it, and how long stopping takes."""

from typing import Any

from sa_ray.catalogue import VariantSpec
from sa_ray.contracts import GenerationRequest, ResolvedRequest
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.serving.router import REPORT_PERIOD_S
from sa_ray.settings import Autoscaling

BACKLOG_POLICY = "sa_ray.scheduling.autoscaling_policy:BacklogPolicy"
ROUTER = "sa_ray.serving.router:EarliestCompletionRouter"

LOOK_BACK_S = 15.0
"""Serve averages over it; it has to be longer than the 10 s between two reports."""

UPSCALE_DELAY_S = {"requests": 15.0, "backlog": 0.0}
"""Counts of requests vary from one moment to the next, and replicas would come and go with them if
they were not averaged. Work that is too much now is not done sooner by waiting."""

DOWNSCALE_DELAY_S = 300.0
"""Loading a model again takes long. In ``bench/simulate.py`` a fifth of it changes the number of
replicas several times as often, and three times as much costs up to twice the replica hours in
bursts, with the same waits."""


def autoscaling_config(
    policy: Autoscaling, spec: VariantSpec, cost: Cost, *, min_replicas: int
) -> dict[str, Any]:
    """Serve's ``autoscaling_config`` for a variant whose clips cost ``cost``."""
    config: dict[str, Any] = {
        "min_replicas": min_replicas,
        "max_replicas": spec.max_replicas,
        # Serve's own policy goes by it; ours does not.
        "target_ongoing_requests": spec.max_batch_rows,
        "look_back_period_s": LOOK_BACK_S,
        "upscale_delay_s": UPSCALE_DELAY_S[policy],
        "downscale_delay_s": DOWNSCALE_DELAY_S,
    }
    if policy == "backlog":
        config["policy"] = {
            "policy_function": BACKLOG_POLICY,
            "policy_kwargs": {
                "target_wait": spec.target_wait,
                "request_seconds": estimator(spec, cost).share(_clip()),
            },
        }
    return config


def router_config(spec: VariantSpec, cost: Cost) -> dict[str, Any]:
    """Serve's ``request_router_config`` for a variant whose clips cost ``cost``."""
    return {
        "request_router_class": ROUTER,
        "request_router_kwargs": {
            "cost": cost.model_dump(),
            "max_rows": spec.max_batch_rows,
            "max_seconds": spec.max_batch_seconds,
        },
        "request_routing_stats_period_s": REPORT_PERIOD_S,
    }


def grace_seconds(spec: VariantSpec, cost: Cost) -> float:
    """How long a replica that Serve stops may go on: until all that it may hold is done, at the
    default number of steps, were every clip as long as can be; ``spec.grace_seconds`` at least."""
    longest = estimator(spec, cost).share(_clip(duration=spec.max_duration))
    return max(spec.grace_seconds, spec.max_ongoing_requests * longest)


def capacity(spec: VariantSpec) -> int:
    """How many jobs saturate a variant at ``max_replicas``."""
    return spec.max_replicas * spec.max_ongoing_requests


def estimator(spec: VariantSpec, cost: Cost) -> Estimator:
    return Estimator(cost, spec.max_batch_rows, spec.max_batch_seconds)


def _clip(**changes: Any) -> ResolvedRequest:
    """What the API takes for a request without details. The model makes no difference here."""
    request = GenerationRequest(prompt="a clip", **changes)
    fields = request.model_dump(exclude={"model"}) | {"seed": 0}
    return ResolvedRequest(model="small-sfx", **fields)
