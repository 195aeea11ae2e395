"""Serve options: autoscaling, routing, how many requests may wait, how long stopping may take."""

from collections.abc import Iterable
from typing import Any

from ray.serve.config import BackpressureConfig

from sa_ray.catalogue import VariantSpec
from sa_ray.contracts import GenerationRequest, ResolvedRequest
from sa_ray.scheduling.costs import Cost
from sa_ray.scheduling.estimator import Estimator
from sa_ray.serving.router import BACKOFF_S, REPORT_PERIOD_S
from sa_ray.settings import Autoscaling, LimitSettings

CPU_POLICY = "sa_ray.scheduling.autoscaling_policy:CpuPolicy"
BACKLOG_POLICY = "sa_ray.scheduling.autoscaling_policy:BacklogPolicy"
ROUTER = "sa_ray.serving.router:EarliestCompletionRouter"

LOOK_BACK_S = 15.0
"""Seconds over which Serve averages; longer than the 10 s between two reports."""

UPSCALE_DELAY_S = {"requests": 15.0, "backlog": 0.0}
"""Seconds before Serve adds replicas, by policy. Counts of requests vary from one moment to the
next, and the delay keeps replicas from coming and going with them. A backlog of work is not done
sooner by waiting."""

DOWNSCALE_DELAY_S = 300.0
"""Seconds before Serve removes replicas, as loading a model again takes long. In
``bench/simulate.py`` a fifth of this changes the number of replicas several times as often. Three
times as much costs up to twice the replica hours in bursts, with the same waits."""

INGRESS_UPSCALE_DELAY_S = 15.0
"""Seconds before Serve adds replicas of the ingress. Work that a new one has taken over counts
twice until the others report again, which they do every 10 s, of the last 3 s."""

INGRESS_SHARE = 0.6
"""Share of a core that a replica of the ingress should use: 84 to 130 clips of 5 s a second. Half
of it or more is its event loop's, the rest that of threads beside it (bench/results/serving.md)."""

OTHER_REQUESTS = 200
"""Requests that do not wait for jobs or clips, which an ingress replica handles at once."""

QUEUED_AT_PROXY = 1000
"""Requests that may wait in a proxy for an ingress replica, as while one is started again."""


def autoscaling_config(
    policy: Autoscaling, spec: VariantSpec, cost: Cost, *, min_replicas: int
) -> dict[str, Any]:
    """Return Serve's ``autoscaling_config`` for a variant whose clips cost ``cost``."""
    config = _scaling(min_replicas, spec.max_replicas, UPSCALE_DELAY_S[policy])
    # Serve's own policy reads it; ours does not.
    config["target_ongoing_requests"] = spec.max_batch_rows
    if policy == "backlog":
        config["policy"] = {
            "policy_function": BACKLOG_POLICY,
            "policy_kwargs": {
                "target_wait": spec.target_wait,
                "request_seconds": estimator(spec, cost).share(_clip()),
            },
        }
    return config


def _scaling(least: int, most: int, upscale_delay_s: float) -> dict[str, Any]:
    return {
        "min_replicas": least,
        "max_replicas": most,
        "look_back_period_s": LOOK_BACK_S,
        "upscale_delay_s": upscale_delay_s,
        "downscale_delay_s": DOWNSCALE_DELAY_S,
    }


def router_config(spec: VariantSpec, cost: Cost) -> dict[str, Any]:
    """Return Serve's ``request_router_config`` for a variant whose clips cost ``cost``."""
    return {
        "request_router_class": ROUTER,
        "request_router_kwargs": {
            "cost": cost.model_dump(),
            "max_rows": spec.max_batch_rows,
            "max_seconds": spec.max_batch_seconds,
        },
        "request_routing_stats_period_s": REPORT_PERIOD_S,
        "max_backoff_s": BACKOFF_S,
    }


def grace_seconds(spec: VariantSpec, cost: Cost) -> float:
    """Return the seconds that a stopping replica may go on: as long as its places take to be done.

    Assumes a single clip in each, no loop, of the default number of steps and the longest duration.
    Requests for several take longer together. At least ``spec.grace_seconds``.
    """
    longest = estimator(spec, cost).share(_clip(duration=spec.max_duration))
    return max(spec.grace_seconds, spec.max_ongoing_requests * longest)


def capacity(spec: VariantSpec, running: int) -> int:
    """Return the number of clips to lease for a variant with so many ``running`` replicas.

    One batch more than they take: it starts the first replica, or is there when the next one comes.
    All others wait in the queue, where jobs of a higher priority overtake them.
    """
    return running * spec.max_ongoing_requests + spec.max_batch_rows


def queued_requests(spec: VariantSpec, limits: LimitSettings) -> int:
    """Return how many calls of one caller may wait to be sent to a replica of a variant.

    Serve counts for each caller, and counts what comes together as waiting, free slots or not: a
    burst on idle replicas has to fit, and the dispatcher's jobs too.
    """
    slots = spec.max_replicas * spec.max_ongoing_requests
    return slots + max(limits.max_queued_requests, spec.max_batch_rows)


def ingress_replicas(limits: LimitSettings) -> dict[str, Any]:
    """Return Serve's options for the number of ingress replicas: fixed, or by their CPU time.

    Those that go have the HTTP requests in them finished first, as long as Serve lets them.
    """
    if limits.max_ingress_replicas is None:
        return {"num_replicas": limits.ingress_replicas}
    return {
        "autoscaling_config": {
            **_scaling(
                limits.ingress_replicas, limits.max_ingress_replicas, INGRESS_UPSCALE_DELAY_S
            ),
            "policy": {
                "policy_function": CPU_POLICY,
                "policy_kwargs": {"target_share": INGRESS_SHARE},
            },
        }
    }


def ingress_limits(specs: Iterable[VariantSpec], limits: LimitSettings) -> dict[str, Any]:
    """Return Serve's options that bound the requests at an ingress replica.

    A replica has room for all who may wait for jobs, for all synchronous requests up to those that
    a variant refuses with 429, and for ``OTHER_REQUESTS`` besides. What is over the room waits in
    Serve's proxy; what is over that is refused there.
    """
    synchronous = sum(
        spec.max_replicas * spec.max_ongoing_requests + queued_requests(spec, limits)
        for spec in specs
    )
    return {
        "max_ongoing_requests": limits.max_waiting_requests + synchronous + OTHER_REQUESTS,
        "max_queued_requests": QUEUED_AT_PROXY,
        "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=5),
    }


def estimator(spec: VariantSpec, cost: Cost) -> Estimator:
    return Estimator(cost, spec.max_batch_rows, spec.max_batch_seconds)


def _clip(**changes: Any) -> ResolvedRequest:
    """Resolve a request without details as the API does. The model makes no difference here."""
    request = GenerationRequest(prompt="a clip", **changes)
    fields = request.model_dump(exclude={"model"}) | {"seed": 0}
    return ResolvedRequest(model="small-sfx", **fields)
