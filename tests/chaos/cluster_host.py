"""The process that starts a Ray cluster with Serve on it and deploys the application.

Apart from the tests, so that the whole cluster can be killed and the tests go on. It obeys
commands, JSON, one a line on its standard input, and answers each with a line.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.operators_environment import TIMEOUTS

# As KubeRay has it: what is not lost here is not lost there.
os.environ |= TIMEOUTS
# Otherwise nothing could join the cluster without its token.
os.environ["RAY_AUTH_MODE"] = "disabled"
# How often Serve looks whether its HTTP proxy lives; 10 by default.
os.environ["RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S"] = "2"
# Its start is slow on a busy machine.
os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"

from sa_ray.serving.haproxy import ray_environment

os.environ |= ray_environment()
# Several nodes are on this machine.
os.environ["SERVE_SOCKET_REUSE_PORT_ENABLED"] = "1"

import ray
from ray import serve
from ray.cluster_utils import Cluster

from sa_ray import app
from tests.support.broken_engine import breaking
from tests.support.engine_in_process import EngineInProcess

CPUS = 4
SYSTEM_CONFIG = {
    # A node is given up after 3 s without an answer; 15 s by default.
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
    # By default Ray's workers would only get the CPU that the clients leave.
    "worker_niceness": 0,
}

STORE_BYTES = 300 << 20


class Host:
    def __init__(self, port: int, *, bare_head: bool) -> None:
        """``bare_head``: the head has no CPUs, so that all work is on another node."""
        self._cluster = Cluster()
        self._add_node(0 if bare_head else CPUS, _system_config=SYSTEM_CONFIG)
        ray.init(
            self._cluster.address, namespace="serve", log_to_driver=False, logging_level="error"
        )
        if bare_head:
            self._add_node(CPUS)
        serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})

    def obey(self, command: str, **args: Any) -> None:
        match command:
            case "deploy":
                marker = args["breaking"]
                app.Variant = breaking(Path(marker)) if marker else EngineInProcess
                serve.run(app.build(args["settings"]), name="sa-ray", route_prefix="/")
            case "kill_worker_raylet":
                for node in self._cluster.worker_nodes:
                    for kind, process in node.live_processes():
                        if kind == "raylet":
                            process.kill()
                            process.wait()  # its workers take a zombie for alive
                self._add_node(CPUS)
            case _:
                raise ValueError(command)

    def _add_node(self, cpus: int, **options: Any) -> None:
        self._cluster.add_node(
            num_cpus=cpus, object_store_memory=STORE_BYTES, include_dashboard=False, **options
        )


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    host = Host(int(sys.argv[1]), bare_head=sys.argv[2] == "bare_head")
    print(json.dumps("started"), file=answers, flush=True)
    for line in sys.stdin:
        host.obey(**json.loads(line))
        print(json.dumps("done"), file=answers, flush=True)


if __name__ == "__main__":
    main()
