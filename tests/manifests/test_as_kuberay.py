"""The image's Ray, started, spoken to and stopped as KubeRay and a kubelet do it.

Each Pod has a network, processes and files of its own; commands, variables, probes and `preStop`
are those that the operator and the manifests give it.
"""

import copy
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.manifests.agreement import ROOT, Deployment
from tests.manifests.container import Image
from tests.manifests.test_dashboard import LABELS, METRIC, expressions

EXPORTED_AT_ONCE = {
    *("ray_serve_num_http_requests_total", "ray_serve_http_request_latency_ms_bucket"),
    *("ray_serve_deployment_replica_healthy", "ray_serve_deployment_request_counter_total"),
    *("ray_serve_deployment_processing_latency_ms_bucket", "ray_serve_deployment_queued_queries"),
    *("ray_serve_replica_processing_queries", "ray_object_store_memory"),
}
"""Of the dashboard's metrics, those that need neither an error nor a GPU."""
CONTROL = ("cpu-1", "cpu-2", "cpu-3")


@pytest.fixture(scope="module")
def answers(image: Image, autoscaling: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = copy.deepcopy(autoscaling.serve_config)
    (application,) = config["applications"]
    # In place of what is not here: GPUs, a bucket.
    del application["args"]["storage_bucket"]
    application["args"] |= {"engine": "procedural", "device": "cpu", "output_dir": "/data"}
    file = tmp_path_factory.mktemp("pods") / "given.json"
    given = {
        "root": root_of(image),
        "metrics": sorted(EXPORTED_AT_ONCE),
        "service": autoscaling.service,
        "config": config,
    }
    file.write_text(json.dumps(given))

    done = subprocess.run(
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-m", "tests.manifests.as_kuberay", file),
        ],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    logs = [f"{log.name}: {log.read_text()[-1500:]}" for log in file.parent.glob("*.log")]
    assert done.returncode == 0, "\n".join([done.stderr[-3000:], *logs])
    return json.loads(done.stdout.splitlines()[-1])


def root_of(image: Image) -> dict[str, Any]:
    config = image.config()
    return {
        "path": str(image.root()),
        "env": dict(each.split("=", 1) for each in config["Env"]),
        "user": config["User"],
        "directory": config["WorkingDir"],
    }


def places(actors: list[list[str]], kind: str) -> list[str]:
    """In which Pods the actors whose class begins so are."""
    return sorted(pod for name, pod in actors if name.startswith(kind))


@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestAsKubeRay:
    def test_the_application_of_the_manifest_serves(self, answers: dict[str, Any]) -> None:
        assert answers["engine"] == "procedural"
        assert answers["clip"] == [200, "audio/wav"]

    def test_the_manifests_probes_are_answered(self, answers: dict[str, Any]) -> None:
        assert set(answers["alive"]) == {"head", "cpu-1", "cpu-2", "gpu-1"}
        assert all(answers["alive"].values())
        assert all(answers["ready"][name] for name in ("head", "cpu-1", "cpu-2"))

    def test_the_dashboard_wants_the_token(self, answers: dict[str, Any]) -> None:
        assert answers["without token"] in (401, 403)

    def test_what_is_not_a_model_stays_off_head_and_gpus(self, answers: dict[str, Any]) -> None:
        actors = answers["actors"]
        assert places(actors, "ServeReplica:sa-ray:ingress") == ["cpu-1", "cpu-2"]
        for kind in ("ServeReplica:sa-ray:dispatcher", "JobActor", "Uploader"):
            (place,) = places(actors, kind)
            assert place in CONTROL, kind
        assert "head" not in places(actors, "ServeReplica:")

    def test_the_dashboards_metrics_are_exported(
        self, answers: dict[str, Any], of_ones_own: Deployment
    ) -> None:
        """``answers`` waited for them: what is left to say is that Grafana asks for them."""
        (config_map,) = of_ones_own.of_kind("ConfigMap")
        text = "".join(expressions(json.loads(config_map["data"]["sa-ray.json"])))

        assert answers
        assert set(METRIC.findall(text)) - LABELS >= EXPORTED_AT_ONCE


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_login_shell_finds_the_programs(image: Image) -> None:
    """KubeRay starts them by one where its operator has `ENABLE_LOGIN_SHELL`; it sets `PATH`."""
    done = image.run("bash -cl -- 'command -v ray drain-node'")

    assert done.stdout.split() == ["/opt/sa-ray/bin/ray", "/opt/sa-ray/bin/drain-node"]


@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestDrain:
    """The Pod with the job actor is deleted under load, while another CPU worker comes."""

    def test_no_request_is_lost(self, answers: dict[str, Any]) -> None:
        outcomes = answers["drained"]["outcomes"]

        assert set(outcomes) == {"200", "job 202"}, outcomes
        assert set(answers["drained"]["jobs"]) == {"succeeded"}
        assert sum(answers["drained"]["jobs"].values()) == outcomes["job 202"]

    def test_replicas_and_the_proxy_have_gone_before_it_is_stopped(
        self, answers: dict[str, Any]
    ) -> None:
        assert answers["drained"]["left"] == []

    def test_clients_that_keep_a_connection_are_told_to_leave(
        self, answers: dict[str, Any]
    ) -> None:
        *before, last = answers["drained"]["kept"]

        assert [*map(tuple, before)] == [(200, None)] * len(before)
        assert tuple(last) == (200, "close")

    def test_what_was_in_it_runs_elsewhere(self, answers: dict[str, Any]) -> None:
        actors = answers["drained"]["actors"]
        assert len(places(actors, "ServeReplica:sa-ray:ingress")) == 2
        for kind in ("ServeReplica:sa-ray:ingress", "ServeReplica:sa-ray:dispatcher", "JobActor"):
            assert set(places(actors, kind)) <= set(CONTROL)

    def test_the_head_waits_for_workers_that_drain(self, answers: dict[str, Any]) -> None:
        drained = answers["drained"]
        assert drained["the head waited"] > drained["took"]["preStop"]

    def test_a_head_that_is_stopped_alone_does_not_wait(self, answers: dict[str, Any]) -> None:
        """Else it would for 235 s."""
        assert answers["the head alone"] < 120


@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestEnd:
    """All Pods are deleted at once, and so nothing can take over what the workers have."""

    def test_workers_do_not_wait_for_what_does_not_come(self, answers: dict[str, Any]) -> None:
        """Else they would for 220 s."""
        waits = {name: end["took"]["preStop"] for name, end in answers["ended"].items()}

        assert len(waits) == 4
        assert max(waits.values()) < 120, waits

    def test_what_ran_in_them_has_ended_by_itself(self, answers: dict[str, Any]) -> None:
        left = {name: end["left"] for name, end in answers["ended"].items() if name != "head"}

        assert list(left.values()) == [[], [], []], left

    def test_ray_ends_soon_after(self, answers: dict[str, Any]) -> None:
        """Else it would drain once more, for 30 s."""
        for name, end in answers["ended"].items():
            assert end["took"]["in all"] - end["took"]["preStop"] < 29, name
