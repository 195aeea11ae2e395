"""A node of the cluster dies, or is drained and taken away, while it generates."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from ray.cluster_utils import Cluster

from .application import CONTROL, Application
from .conftest import AddNode
from .load import SteadyLoad
from .nodes import frozen, kill

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GPU_NODE = {"num_cpus": 1, "num_gpus": 1}
DEPLOYMENTS = {
    "ingress": {"ray_actor_options": CONTROL},
    "dispatcher": {"ray_actor_options": CONTROL},
    "small-sfx": {"ray_actor_options": {"num_cpus": 0.1, "num_gpus": 0.5}},
}

LONG_S = 120
LONG = {
    "prompt": "thunder, rain, wind, a siren, a choir and drums",
    "duration": LONG_S,
    "steps": 50,
}
"""Half a second to three seconds of work for a core to itself."""

CROWD = 8
"""Of them in one batch: seconds of work on any machine."""


@pytest.fixture
def app(application: Callable[..., Application]) -> Application:
    return application(
        variants={"small-sfx": {"max_replicas": 1, "max_batch_seconds": CROWD * LONG_S}}
    )


def generating(app: Application) -> str:
    """Submit a crowd of long jobs, and wait until several of them are at work: the id of one.

    The first to come may have a batch of its own, which is soon made.
    """
    ids = [app.service.submit(**LONG) for _ in range(CROWD)]
    at_work: list[str] = []

    def looked() -> bool:
        at_work[:] = [one for one in ids if 0 < app.service.job(one)["progress"] < 50]
        return len(at_work) > 1

    app.until(looked)
    return at_work[-1]


def test_a_node_dies_mid_generation(
    cluster: Cluster, add_node: AddNode, app: Application, table: list[str]
) -> None:
    doomed = add_node(**GPU_NODE)
    app.deploy(DEPLOYMENTS)
    assert app.places()["small-sfx"] == doomed.node_id

    with SteadyLoad(app.service) as load, ThreadPoolExecutor(1) as pool:
        load.wait_for_answers()
        survivor = add_node(**GPU_NODE)
        audio = pool.submit(app.service.generate, **LONG)
        job_id = generating(app)
        kill(cluster, doomed)
        recovery = app.until(load.serves_again())
        load.wait_for_answers()
        assert audio.result().status_code == 200

    assert app.service.wait_for(job_id, "succeeded")["attempts"] == 2
    assert app.places()["small-sfx"] == survivor.node_id
    table.append(load.row("the only GPU node dies, another is there", f"{recovery:.1f} s"))
    load.assert_nothing_lost()


def test_a_node_falls_silent_mid_generation(
    cluster: Cluster, add_node: AddNode, app: Application, table: list[str]
) -> None:
    doomed = add_node(**GPU_NODE)
    app.deploy(DEPLOYMENTS)

    with SteadyLoad(app.service) as load:
        load.wait_for_answers()
        survivor = add_node(**GPU_NODE)
        job_id = generating(app)
        with frozen(doomed):
            recovery = app.until(load.serves_again())
            load.wait_for_answers()

    assert app.service.wait_for(job_id, "succeeded")["attempts"] == 2
    assert app.places()["small-sfx"] == survivor.node_id
    table.append(load.row("the only GPU node falls silent, another is there", f"{recovery:.1f} s"))
    load.assert_nothing_lost()


def test_a_node_is_drained_and_taken_away(
    cluster: Cluster, add_node: AddNode, app: Application, table: list[str]
) -> None:
    leaving = add_node(**GPU_NODE)
    app.deploy(DEPLOYMENTS)
    assert app.places()["small-sfx"] == leaving.node_id

    with SteadyLoad(app.service) as load:
        load.wait_for_answers()
        staying = add_node(**GPU_NODE)
        job_id = generating(app)
        app.drain(leaving.node_id)
        seconds = app.until(lambda: leaving.node_id not in app.nodes_of_replicas())
        cluster.remove_node(leaving)
        load.wait_for_answers()

    assert app.service.wait_for(job_id, "succeeded")["attempts"] == 1
    assert app.places()["small-sfx"] == staying.node_id
    table.append(load.row("the only GPU node is drained, another is there", f"{seconds:.1f} s"))
    load.assert_nothing_lost()
    assert {job["attempts"] for job in load.jobs} == {1}
