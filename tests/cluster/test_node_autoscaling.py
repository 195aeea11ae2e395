"""Ray's node autoscaler adds a GPU node for a pending replica, and removes it when it is idle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.util import get_node_ip_address
from ray.util.state import list_nodes

from sa_ray.local import free_port
from tests.support.ray_cluster import own_fallback

from .application import Application

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

START_TIMEOUT_S = 120.0
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}


def autoscaling_config(gcs_address: str) -> dict[str, Any]:
    """One node that stays, and a GPU node while it is needed; nodes are processes here."""
    return {
        "cluster_name": "test",
        "provider": {
            # By its own name, Ray would look for defaults that are not in its wheel.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": gcs_address,
        },
        "max_workers": 2,
        "upscaling_speed": 10,
        "idle_timeout_minutes": 0.05,
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "control": {
                "resources": {"CPU": 4, "control": 1},
                "node_config": {},
                "min_workers": 1,
                "max_workers": 1,
            },
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


class AutoscalingCluster:
    """``ray.cluster_utils.AutoscalingCluster`` runs ``ray stop``, which ends every Ray on the
    machine. This one ends what it has started."""

    def __init__(self, folder: Path) -> None:
        port, dashboard_port = free_port(), free_port()
        self.gcs_address = f"{get_node_ip_address()}:{port}"
        self.webui_url = f"127.0.0.1:{dashboard_port}"
        config = folder / "cluster.json"
        config.write_text(json.dumps(autoscaling_config(self.gcs_address)))
        options = {
            "--autoscaling-config": config,
            "--port": port,
            "--dashboard-port": dashboard_port,
            "--dashboard-agent-listen-port": free_port(),
            "--ray-client-server-port": free_port(),
            "--num-cpus": 0,
        }
        words = [f"{name}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        self._log = folder / "head.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *words],
                env={**os.environ, **ENVIRONMENT, **own_fallback()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_up()

    def gpu_nodes(self) -> int:
        nodes = list_nodes(address=f"http://{self.webui_url}")
        return sum(node.state == "ALIVE" and "GPU" in node.resources_total for node in nodes)

    def stop(self) -> None:
        session = self._process.pid
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == session:
                    process.send_signal(signal.SIGKILL)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
        self._process.wait()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                httpx.get(f"http://{self.webui_url}/api/version").raise_for_status()
            except httpx.HTTPError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.stop()
                    raise AssertionError(self._log.read_text()) from None
                time.sleep(0.2)
            else:
                return


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[AutoscalingCluster]:
    cluster = AutoscalingCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.stop()


def test_a_gpu_node_comes_for_a_pending_replica_and_goes_when_idle(
    cluster: AutoscalingCluster, tmp_path: Path, table: list[str]
) -> None:
    app = Application(cluster, free_port(), tmp_path, preload_models="")
    on_control = {"ray_actor_options": {"num_cpus": 0.05, "resources": {"control": 0.01}}}
    app.deploy(
        {
            "ingress": on_control,
            "dispatcher": on_control,
            "small-sfx": {
                "ray_actor_options": {"num_cpus": 0.1, "num_gpus": 1},
                "autoscaling_config": {
                    "min_replicas": 0,
                    "max_replicas": 1,
                    "downscale_delay_s": 2,
                    "look_back_period_s": 2,
                },
            },
        }
    )
    assert cluster.gpu_nodes() == 0

    started = time.monotonic()
    answer = app.service.generate(duration=1)
    assert answer.status_code == 200, answer.text
    up = time.monotonic() - started
    assert cluster.gpu_nodes() == 1
    down = app.until(lambda: cluster.gpu_nodes() == 0)

    assert app.service.wait_for(app.service.submit(), "succeeded")["attempts"] == 1
    table.append(
        f"| a GPU node for the first request, none when idle | {up:.1f} s to its audio; gone "
        f"{down:.1f} s after it | 1 | 0 | {up:.1f} | 1 | 0 | 0 |"
    )
