"""Deployments land on the nodes that their resources name."""

from collections.abc import Callable

import pytest
from ray.cluster_utils import Cluster

from .application import CONTROL, Application
from .conftest import AddNode

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


def test_deployments_land_where_their_resources_are_and_two_share_a_gpu(
    cluster: Cluster, add_node: AddNode, application: Callable[..., Application]
) -> None:
    [control] = cluster.worker_nodes
    shared = add_node(num_cpus=1, num_gpus=1, resources={"small": 1})
    own = add_node(num_cpus=1, num_gpus=1, resources={"large": 1})
    app = application(preload_models="small-sfx,small-music,medium")
    half = {"num_cpus": 0.1, "num_gpus": 0.5, "resources": {"small": 0.1}}
    whole = {"num_cpus": 0.1, "num_gpus": 1, "resources": {"large": 0.1}}

    app.deploy(
        {
            "ingress": {"ray_actor_options": CONTROL},
            "dispatcher": {"ray_actor_options": CONTROL},
            "small-sfx": {"ray_actor_options": half},
            "small-music": {"ray_actor_options": half},
            "medium": {"ray_actor_options": whole},
        }
    )

    assert app.places() == {
        "ServeController": cluster.head_node.node_id,
        "HAProxyManager": cluster.head_node.node_id,
        "ProxyActor": cluster.head_node.node_id,
        "ingress": control.node_id,
        "dispatcher": control.node_id,
        "JobActor": control.node_id,
        "Uploader": control.node_id,
        "small-sfx": shared.node_id,
        "small-music": shared.node_id,
        "medium": own.node_id,
    }

    for model in ("small-sfx", "small-music", "medium"):
        assert app.service.generate(model=model, duration=1).status_code == 200
