"""The application on a cluster of several nodes, as its operator sees it."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import yaml
from ray.util.state import list_actors

from sa_ray.local import IMPORT_PATH
from tests.support.service import Service, local_settings

DEADLINE_S = 180.0
POLL_S = 0.2

CONTROL = {"num_cpus": 0.05, "label_selector": {"sa-ray/role": "control"}}
"""Keeps a deployment on the nodes that are there to stay."""


class Cluster(Protocol):
    @property
    def gcs_address(self) -> str: ...

    @property
    def webui_url(self) -> str: ...


@dataclass(frozen=True)
class Replica:
    deployment: str
    state: str
    node_id: str
    actor_id: str


class Application:
    """Deployed and redeployed with ``serve deploy``; looked at through the dashboard's API."""

    def __init__(
        self,
        cluster: Cluster,
        port: int,
        folder: Path,
        *,
        proxy_location: str = "HeadOnly",
        **args: Any,
    ) -> None:
        """``port`` is where Serve listens; it cannot change while the cluster lives."""
        self._gcs_address = cluster.gcs_address
        self._dashboard = f"http://{cluster.webui_url}"
        self._folder = folder
        self._proxy_location = proxy_location
        self._port = port
        self.args = {**local_settings(folder), **args}
        self.service = Service(f"http://127.0.0.1:{port}", self.args)

    def deploy(
        self, deployments: dict[str, dict[str, Any]], *, runtime_env: dict[str, Any] | None = None
    ) -> float:
        """Return once Serve has carried it out and the service is up; how many seconds that took.

        ``deployments``: Serve's own options, by deployment.
        """
        started = time.monotonic()
        before = self._last_deploy()
        config = {
            "proxy_location": self._proxy_location,
            "http_options": {"host": "127.0.0.1", "port": self._port},
            "applications": [
                {
                    "name": "sa-ray",
                    "route_prefix": "/",
                    "import_path": IMPORT_PATH,
                    "runtime_env": runtime_env or {},
                    "args": self.args,
                    "deployments": [
                        {"name": name, **options} for name, options in deployments.items()
                    ],
                }
            ],
        }
        path = self._folder / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "ray.serve.scripts", "deploy", str(path)]
        subprocess.run([*command, "--address", self._dashboard], check=True, capture_output=True)
        self.until(lambda: self._last_deploy() > before)
        self.wait_until_running()
        return time.monotonic() - started

    def details(self) -> dict[str, Any]:
        """What ``serve status`` is made from."""
        details: dict[str, Any] = self._serve()["applications"]["sa-ray"]
        return details

    def replicas(self) -> list[Replica]:
        return [
            Replica(name, each["state"], each["node_id"], each["actor_id"])
            for name, entry in self.details()["deployments"].items()
            for each in entry["replicas"]
        ]

    def places(self) -> dict[str, str]:
        """The node of every living actor by the name of its class; replicas by deployment."""
        actors = list_actors(address=self._dashboard, filters=[("state", "=", "ALIVE")])
        return {actor.class_name.split(":")[-1]: actor.node_id for actor in actors}

    def proxies(self) -> dict[str, str]:
        """The state of each HTTP proxy by its node."""
        return {node: proxy["status"] for node, proxy in self._serve()["proxies"].items()}

    def connect_through(self, node_id: str) -> httpx.Client:
        """A client whose one connection is with the HTTP proxy of this node, as a load balancer's
        would be: the proxies of this machine share a port, and the kernel picks one of them."""
        proxies = list_actors(
            address=self._dashboard,
            filters=[("class_name", "=", "HAProxyManager"), ("node_id", "=", node_id)],
        )
        [manager] = [psutil.Process(actor.pid) for actor in proxies if actor.state == "ALIVE"]
        while True:
            http = httpx.Client(base_url=self.service.base_url)
            stream = http.get("/-/healthz").extensions["network_stream"]
            own = stream.get_extra_info("client_addr")
            taken = [
                one.raddr for each in manager.children() for one in each.net_connections("tcp")
            ]
            if own in taken:
                return http
            http.close()

    def nodes_of_replicas(self) -> set[str]:
        return {replica.node_id for replica in self.replicas()}

    def drain(self, node_id: str) -> None:
        """Ask for what is on the node to move: it is to go in ten minutes."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
        options = {
            "--address": self._gcs_address,
            "--node-id": node_id,
            "--reason": "DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message": "maintenance",
            "--deadline-remaining-seconds": "600",
        }
        words = [word for option in options.items() for word in option]
        subprocess.run([*command, *words], check=True, capture_output=True)

    def until(self, condition: Callable[[], bool]) -> float:
        """Poll until ``condition`` holds; return how many seconds that took.

        The dashboard may be away meanwhile, and Serve's controller with what it knows.
        """
        started = time.monotonic()
        while True:
            with suppress(httpx.HTTPError, KeyError):
                if condition():
                    return time.monotonic() - started
            assert time.monotonic() < started + DEADLINE_S, self._serve()
            time.sleep(POLL_S)

    def wait_until_running(self) -> float:
        """Until Serve is as it was told to be, and the service is up."""
        return self.until(lambda: self.details()["status"] == "RUNNING" and self._is_up())

    def _is_up(self) -> bool:
        health = self.service.http.get("/health").raise_for_status().json()
        return bool(health["status"] != "starting")

    def _last_deploy(self) -> float:
        applications = self._serve()["applications"]
        return float(applications["sa-ray"]["last_deployed_time_s"]) if applications else 0.0

    def _serve(self) -> dict[str, Any]:
        url = f"{self._dashboard}/api/serve/applications/"
        answer: dict[str, Any] = httpx.get(url, timeout=30).raise_for_status().json()
        return answer
