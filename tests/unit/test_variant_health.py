"""What becomes of Serve's word on a deployment."""

import json

import pytest

from sa_ray.serving.cluster_room import UNKNOWN, ClusterRoom, scales
from sa_ray.serving.ingress.health import variant_health
from sa_ray.serving.serve_status import PLACE_PATIENCE_S, Deployment, Starts
from tests.support.clock import Clock

GPU = {"CPU": 0.5, "GPU": 1.0}
SMALL, LARGE = {"CPU": 16.0, "GPU": 0.5}, {"CPU": 16.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("status", "trigger", "replicas", "state"),
    [
        ("HEALTHY", "UNSPECIFIED", {"RUNNING": 1}, "ready"),
        ("HEALTHY", "UNSPECIFIED", {}, "idle"),
        ("UPDATING", "CONFIG_UPDATE_STARTED", {"STARTING": 1}, "starting"),
        ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED", {"STARTING": 1}, "unavailable"),
        ("UNHEALTHY", "REPLICA_STARTUP_FAILED", {"STARTING": 1}, "unavailable"),
    ],
)
def test_states(status: str, trigger: str, replicas: dict[str, int], state: str) -> None:
    assert variant_health(overview(status, trigger, replicas)).state == state


@pytest.mark.parametrize("replicas", [{"STOPPING": 1}, {}, {"STARTING": 1}])
def test_requests_wait_for_the_replica_that_follows_a_lost_one(replicas: dict[str, int]) -> None:
    lost = overview("UNHEALTHY", "HEALTH_CHECK_FAILED", replicas)

    assert variant_health(lost).state == "starting"


def test_a_replica_serves_until_it_has_moved_off_a_drained_node() -> None:
    moving = overview("HEALTHY", "UNSPECIFIED", {"PENDING_MIGRATION": 1, "STARTING": 1})

    assert variant_health(moving).state == "ready"


@pytest.mark.parametrize(
    ("nodes", "grows", "fits"),
    [
        ((), False, False),
        ((SMALL, {"CPU": 64.0}), False, False),
        ((SMALL, LARGE), False, True),
        ((), True, True),
    ],
    ids=["no nodes", "no node has all of it", "one node has", "an autoscaler adds one"],
)
def test_a_replica_fits_if_one_node_has_all_that_it_needs(
    nodes: tuple[dict[str, float], ...], grows: bool, fits: bool
) -> None:
    assert ClusterRoom(nodes, grows=grows).fits(GPU) is fits


def test_only_the_monitor_of_an_autoscaler_names_node_types() -> None:
    node = "node_a346beb5a03d5ad6e8db9c40a1e985385bc44fabed96cb37d7a6e691"

    assert not scales(None)
    assert not scales(status({node: 2}))
    assert scales(status({"ray.head.default": 1}))
    assert scales(status({}))
    assert scales(b"{}")


def test_a_model_that_no_node_can_hold_is_given_up_after_a_while() -> None:
    clock = Clock()
    starts = Starts(clock)
    pending = {"medium": overview("UPDATING", "UNSPECIFIED", {"STARTING": 1}, GPU)}

    starts.look(pending, ClusterRoom((SMALL,), grows=False))
    assert starts.given_up == frozenset()

    clock.now += PLACE_PATIENCE_S
    starts.look(pending, ClusterRoom((SMALL,), grows=False))
    assert starts.given_up == starts.without_node == {"medium"}

    starts.look(pending, ClusterRoom((SMALL, LARGE), grows=False))
    assert starts.given_up == frozenset()

    starts.look(pending, ClusterRoom((SMALL,), grows=False))
    assert starts.given_up == frozenset(), "a node that was lost may come back"


def test_what_is_known_of_nodes_holds_while_ray_does_not_answer() -> None:
    clock = Clock()
    starts = Starts(clock)
    pending = {"medium": overview("UPDATING", "UNSPECIFIED", {"STARTING": 1}, GPU)}
    running = {"medium": overview("HEALTHY", "UNSPECIFIED", {"RUNNING": 1}, GPU)}

    starts.look(pending, ClusterRoom((SMALL,), grows=False))
    clock.now += PLACE_PATIENCE_S
    starts.look(pending, UNKNOWN)
    assert starts.given_up == frozenset(), "it was not known for long enough"

    starts.look(pending, ClusterRoom((SMALL,), grows=False))
    starts.look(pending, UNKNOWN)
    assert starts.given_up == {"medium"}

    starts.look(running, UNKNOWN)
    assert starts.given_up == frozenset()


@pytest.mark.parametrize(
    ("replicas", "room"),
    [
        ({"RUNNING": 1}, ClusterRoom((SMALL,), grows=False)),
        ({"PENDING_MIGRATION": 1, "STARTING": 1}, ClusterRoom((SMALL,), grows=False)),
        ({}, ClusterRoom((LARGE,), grows=False)),
        ({"STARTING": 1}, ClusterRoom((SMALL,), grows=True)),
    ],
    ids=["its replica runs", "its replica serves yet", "it is cold", "a node may be added"],
)
def test_a_model_that_can_start_is_not_given_up(
    replicas: dict[str, int], room: ClusterRoom
) -> None:
    clock = Clock()
    starts = Starts(clock)

    for _ in range(3):
        starts.look({"medium": overview("HEALTHY", "UNSPECIFIED", replicas, GPU)}, room)
        clock.now += 10 * PLACE_PATIENCE_S

    assert starts.given_up == frozenset()


def status(active: dict[str, int]) -> bytes:
    return json.dumps({"autoscaler_report": {"active_nodes": active}}).encode()


def overview(
    status: str, trigger: str, replicas: dict[str, int], required: dict[str, float] | None = None
) -> Deployment:
    return Deployment(
        status=status,
        status_trigger=trigger,
        replica_states=replicas,
        message="",
        required_resources=required or {},
    )
