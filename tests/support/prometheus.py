"""A real Prometheus, as Debian packages it."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sa_ray.local import free_port

MONITORING = Path(__file__).parents[2] / "cluster" / "kuberay" / "components" / "monitoring"

DEADLINE_S = 90.0
POLL_S = 0.5


def tool(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} (Debian's package `prometheus` has it): NOTHING ASKS THE METRICS")
    return found


def write_rules(folder: Path) -> Path:
    """The alert rules as Prometheus itself reads them."""
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]))
    return path


def panels() -> dict[str, list[str]]:
    """The queries of the dashboard by the title of their panel, for all clusters."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return {
        panel["title"]: [one["expr"].replace("$cluster", ".*") for one in panel["targets"]]
        for panel in dashboard["panels"]
    }


class Prometheus:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Samples that answer the query now."""
        answer = self._http.get("/api/v1/query", params={"query": expression})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        groups = self._http.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return self._http.get("/-/ready").status_code == 200
        return False


@contextmanager
def scraping(targets: list[str], folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with the alert rules that scrapes ``targets``, as ``host:port``, each second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(write_rules(folder))],
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        tool("prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(f"http://{address}")
        deadline = time.monotonic() + DEADLINE_S
        while not prometheus.is_ready():
            said = (folder / "prometheus.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(POLL_S)
        yield prometheus
    finally:
        process.terminate()
        process.wait()
