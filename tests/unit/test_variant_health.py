"""What becomes of Serve's word on a deployment."""

import pytest
from ray.serve.schema import DeploymentStatusOverview

from sa_ray.serving.ingress.health import variant_health


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


def overview(status: str, trigger: str, replicas: dict[str, int]) -> DeploymentStatusOverview:
    return DeploymentStatusOverview(
        status=status, status_trigger=trigger, replica_states=replicas, message=""
    )
