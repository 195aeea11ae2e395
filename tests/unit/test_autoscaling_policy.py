"""The backlog policy: what it wants for a load; and how policies get to Serve's controller."""

import ast
import importlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from sa_ray.catalogue import CATALOGUE
from sa_ray.contracts import EngineName, VariantName
from sa_ray.scheduling import autoscaling_policy
from sa_ray.scheduling.autoscaling_policy import (
    MAX_BUSY,
    PEAK_S,
    PENDING_SECONDS,
    QUEUE_SECONDS,
    REQUEST_SECONDS,
    BacklogPolicy,
    CpuPolicy,
    Load,
    desired_replicas,
)
from sa_ray.scheduling.costs import cost_of
from sa_ray.serving.deployment_options import (
    autoscaling_config,
    grace_seconds,
    ingress_replicas,
)
from sa_ray.settings import load_settings
from tests.support.serve_autoscaler import Context, Sample

WAIT = 10.0
REQUEST = 2.0

seconds = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("work", "replicas"), [(0, 0), (0.1, 1), (10, 1), (10.1, 2), (100, 10), (1e4, 1000)]
)
def test_work_is_shared_so_that_it_starts_within_the_target_wait(
    work: float, replicas: int
) -> None:
    assert desired_replicas(Load(work, 0.0), 0, WAIT) == replicas


def test_replicas_that_are_busy_stay_though_nothing_waits() -> None:
    assert desired_replicas(Load(0.0, busy=4 * MAX_BUSY + 0.1), 5, WAIT) == 5
    assert desired_replicas(Load(0.0, busy=4 * MAX_BUSY - 0.1), 5, WAIT) == 4


@given(work=seconds, busy=seconds, replicas=st.integers(0, 1000))
def test_being_busy_alone_never_adds_replicas(work: float, busy: float, replicas: int) -> None:
    desired = desired_replicas(Load(work, busy), replicas, WAIT)
    assert math.ceil(work / WAIT) <= desired <= max(replicas, math.ceil(work / WAIT))


def reported(*replicas: dict[str, float]) -> dict[str, dict[str, list[Sample]]]:
    metrics: dict[str, dict[str, list[Sample]]] = {}
    for number, report in enumerate(replicas):
        for name, value in report.items():
            metrics.setdefault(name, {})[f"replica-{number}"] = [Sample(1e9), Sample(value)]
    return metrics


@pytest.fixture
def policy() -> BacklogPolicy:
    return BacklogPolicy(WAIT, REQUEST)


def test_work_counts_wherever_it_waits(policy: BacklogPolicy) -> None:
    metrics = reported(
        {PENDING_SECONDS: 20, REQUEST_SECONDS: 4, QUEUE_SECONDS: 30}, {PENDING_SECONDS: 10}
    )
    context = Context(total_queued_requests=10, raw_metrics=metrics)

    desired, _ = policy(context)

    assert desired == (20 + 10 + 30 + 10 * 4) / WAIT


def test_a_request_counts_one_replica_at_most_until_replicas_report() -> None:
    desired, _ = BacklogPolicy(WAIT, 60.0)(Context(total_num_requests=3))
    assert desired == 3


def test_requests_are_counted_until_replicas_report(policy: BacklogPolicy) -> None:
    desired, _ = policy(Context(total_num_requests=25, raw_metrics={}))
    assert desired == 25 * REQUEST / WAIT


def test_a_failure_leaves_the_replicas_as_they_are(policy: BacklogPolicy) -> None:
    for broken in (reported({PENDING_SECONDS: math.nan}), {PENDING_SECONDS: {"replica": [None]}}):
        assert policy(Context(target_num_replicas=7, raw_metrics=broken)) == (7, {})


def test_replicas_are_given_up_by_the_most_that_was_wanted_of_late(policy: BacklogPolicy) -> None:
    state: dict[str, Any] = {}

    def wanted(at: float, work: float) -> int:
        nonlocal state
        metrics = reported({PENDING_SECONDS: work})
        desired, state = policy(
            Context(target_num_replicas=9, current_time=at, raw_metrics=metrics, policy_state=state)
        )
        return desired

    assert wanted(0, 60) == 6
    assert wanted(PEAK_S / 2, 20) == 6
    assert wanted(PEAK_S, 20) == 6
    assert wanted(2 * PEAK_S, 20) == 2
    assert wanted(2 * PEAK_S, 200) == 20, "more is wanted at once"
    assert wanted(2 * PEAK_S + 1, 0) == 9, "but never as if by the past"
    assert wanted(9 * PEAK_S, 0) == 0


def shipped_backlog() -> dict[str, Any]:
    cost = cost_of("medium", "stable-audio-3", gpu=True)
    return autoscaling_config("backlog", CATALOGUE["medium"], cost, min_replicas=0)


def shipped_cpu() -> dict[str, Any]:
    options = ingress_replicas(load_settings({"max_ingress_replicas": 4}).limits)
    config: dict[str, Any] = options["autoscaling_config"]
    return config


@pytest.mark.parametrize(
    "room", ["sa_ray.serving.autoscaling", "sa_ray.scheduling.autoscaling_policy"]
)
@pytest.mark.parametrize(
    ("config", "name", "made"),
    [
        (shipped_backlog(), "BacklogPolicy", "target_wait=10, request_seconds=2"),
        (shipped_cpu(), "CpuPolicy", "target_share=0.6"),
    ],
)
def test_serve_takes_the_policy_to_a_controller_without_the_package(
    room: str, config: dict[str, Any], name: str, made: str
) -> None:
    config = config | {"policy": config["policy"] | {"policy_function": f"{room}:{name}"}}
    policy = AutoscalingConfig(**config).policy
    assert isinstance(policy, AutoscalingPolicy)

    probe = f"""
import pickle, sys
sys.modules["sa_ray"] = None
policy = pickle.loads(sys.stdin.buffer.read())({made})
class Sample:
    value = 2.1
class Context:
    target_num_replicas, current_time, policy_state = 1, 0.0, {{}}
    total_num_requests, total_queued_requests = 20, 0
    raw_metrics = {{"cpu_share": {{"replica": [Sample]}}}}
print(policy(Context()))
"""
    shipped = policy.get_serialized_policy_def()
    assert shipped is not None

    answer = subprocess.run(
        [sys.executable, "-c", probe], input=shipped, capture_output=True, check=True
    )

    assert answer.stdout.decode().startswith("(4, "), answer.stderr


@pytest.mark.parametrize("name", list(CATALOGUE))
@pytest.mark.parametrize("engine", ["procedural", "stable-audio-3"])
@pytest.mark.parametrize("gpu", [True, False])
def test_a_stopping_replica_has_time_for_all_it_may_hold(
    name: VariantName, engine: EngineName, gpu: bool
) -> None:
    spec, cost = CATALOGUE[name], cost_of(name, engine, gpu=gpu)

    grace = grace_seconds(spec, cost)
    assert grace >= spec.grace_seconds

    config = AutoscalingConfig(**autoscaling_config("requests", spec, cost, min_replicas=1))
    assert config.policy.is_default_policy_function()
    assert config.min_replicas == 1


def test_grace_grows_with_what_a_clip_costs() -> None:
    spec = CATALOGUE["small-sfx"]
    slow = cost_of("small-sfx", "stable-audio-3", gpu=False)
    single: Callable[[int], float] = lambda rows: grace_seconds(  # noqa: E731
        spec.model_copy(update={"max_batch_rows": rows}), slow
    )

    assert single(1) == pytest.approx(2 * (11.4 + 1.156 * 120))
    assert single(2) == pytest.approx(2 * single(1))


def test_the_policy_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(autoscaling_policy.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip

    assert imported
    assert {name.partition(".")[0] for name in imported if name} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("config", "policy"), [(shipped_backlog(), BacklogPolicy), (shipped_cpu(), CpuPolicy)]
)
def test_the_published_import_path_is_the_policy_in_use(
    config: dict[str, Any], policy: type
) -> None:
    published = importlib.import_module("sa_ray.serving.autoscaling")

    module, _, name = config["policy"]["policy_function"].partition(":")

    assert getattr(importlib.import_module(module), name) is getattr(published, name) is policy
