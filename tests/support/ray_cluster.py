"""Ray clusters for the tests of one process: of one node with Serve on it, or of several nodes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster

from sa_ray.local import free_port
from sa_ray.serving.haproxy import ray_environment
from tests.support.secret_settings import environment

# Otherwise nothing could join the cluster without its token.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"
os.environ.update(ray_environment())
# The nodes of a cluster are all on this machine.
os.environ["SERVE_SOCKET_REUSE_PORT_ENABLED"] = "1"
# Nothing outside is to be told that a replica goes.
os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "0.5"

HEAD: dict[str, Any] = {"num_cpus": 0, "include_dashboard": True}


def own_fallback() -> dict[str, str]:
    """What the environment of a cluster says, so that no other one of this machine answers for it:
    the proxies that stand in for a missing ingress would share a port."""
    return {"RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port())}


@contextmanager
def one_node(num_cpus: int, **variables: str) -> Iterator[str]:
    """The base URL of a new cluster of one node, on which no application is deployed yet.

    ``variables``: besides those of this process, in the environment of the cluster's.
    """
    with environment({**own_fallback(), **variables}):
        ray.init(
            address="local",
            num_cpus=num_cpus,
            namespace="serve",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
    try:
        with serve_proxies() as base_url:
            yield base_url
    finally:
        ray.shutdown()


@contextmanager
def serve_proxies() -> Iterator[str]:
    """Serve's HTTP proxies on the cluster that this process has joined; their base URL."""
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


@contextmanager
def several_nodes(**head: Any) -> Iterator[Cluster]:
    """A cluster of a head without CPUs, so that nothing of ours lands there; ``add_node`` joins
    others.

    This process does not join it: what it wants to know, it asks the head's dashboard, at
    ``webui_url``.
    """
    options = {**HEAD, "dashboard_port": free_port(), "env_vars": own_fallback(), **head}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        yield cluster
    finally:
        cluster.shutdown()
