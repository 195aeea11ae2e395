"""The alert rules, as Prometheus's own tool reads them."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sa_ray.serving.metrics import METRICS
from tests.support.prometheus import tool, write_rules

CLUSTER = 'ray_io_cluster="sa-ray"'
LAG = (
    f'ray_serve_event_loop_scheduling_latency_ms_bucket{{{CLUSTER},application="sa-ray",'
    'component="replica",loop_type="main",'
)

CASES: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    "SaRayQueueOld": (
        {f'ray_sa_ray_queue_age_seconds{{{CLUSTER},variant="medium"}}': "0+60x40"},
        "30m",
        {"variant": "medium", "severity": "warning"},
    ),
    "SaRayErrors": (
        {
            f'ray_sa_ray_requests_total{{{CLUSTER},status="2xx"}}': "0+90x40",
            f'ray_sa_ray_requests_total{{{CLUSTER},status="5xx"}}': "0+10x40",
        },
        "15m",
        {"severity": "critical"},
    ),
    "SaRayReplicaUnhealthy": (
        {
            f'ray_serve_deployment_replica_healthy{{{CLUSTER},application="sa-ray",'
            'deployment="medium",replica="a"}': "1x5 0x30",
            f'ray_serve_deployment_replica_healthy{{{CLUSTER},application="sa-ray",'
            'deployment="medium",replica="b"}': "1x40",
        },
        "10m",
        {"deployment": "medium", "replica": "a", "severity": "warning"},
    ),
    "SaRayEventLoopLate": (
        {
            # Three late of four; and one that is full, but late by 25 ms at most.
            f'{LAG}deployment="ingress",actor_id="a",le="100"}}': "0+3x40",
            f'{LAG}deployment="ingress",actor_id="a",le="250"}}': "0+12x40",
            f'{LAG}deployment="ingress",actor_id="a",le="+Inf"}}': "0+12x40",
            f'{LAG}deployment="ingress",actor_id="b",le="25"}}': "0+12x40",
            f'{LAG}deployment="ingress",actor_id="b",le="+Inf"}}': "0+12x40",
        },
        "20m",
        {"deployment": "ingress", "actor_id": "a", "severity": "warning"},
    ),
    "SaRayStoreUnreachable": (
        {
            f'ray_sa_ray_store_up{{{CLUSTER},store="jobs"}}': "1x5 0x30",
            f'ray_sa_ray_store_up{{{CLUSTER},store="objects"}}': "1x40",
        },
        "10m",
        {"store": "jobs", "severity": "critical"},
    ),
    "SaRayDiskFull": (
        {
            f'ray_node_disk_free{{{CLUSTER},instance="a"}}': "5x40",
            f'ray_node_disk_usage{{{CLUSTER},instance="a"}}': "95x40",
        },
        "20m",
        {"instance": "a", "severity": "warning"},
    ),
}
"""By alert: series, a minute between their samples, after which it fires; when; its labels."""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return write_rules(tmp_path)


def every_rule(rules: Path) -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]
    ]


def promtool(*arguments: str | Path) -> str:
    ran = subprocess.run(
        [tool("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_alerts_ask_for_metrics_of_ours_that_there_are(rules: Path) -> None:
    known = {metric.exported for metric in METRICS}
    asked = {
        name for rule in every_rule(rules) for name in re.findall(r"ray_sa_ray_\w+", rule["expr"])
    }

    assert asked
    assert asked <= known


def test_every_alert_has_a_case(rules: Path) -> None:
    assert {rule["alert"] for rule in every_rule(rules)} == set(CASES)


def test_prometheus_takes_the_rules(rules: Path) -> None:
    assert f"{len(CASES)} rules found" in promtool("check", "rules", rules)


def test_each_alert_fires_where_it_should_and_no_other_does(rules: Path, tmp_path: Path) -> None:
    annotations = {rule["alert"]: rule["annotations"] for rule in every_rule(rules)}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": text} for name, text in series.items()],
            "alert_rule_test": [
                {
                    "eval_time": at,
                    "alertname": name,
                    "exp_alerts": [_expected(name, labels, annotations[name])]
                    if name == alert
                    else [],
                }
                for name in CASES
            ],
        }
        for alert, (series, at, labels) in CASES.items()
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))

    promtool("test", "rules", path)


VALUES = {
    "{{ $value | humanizeDuration }}": "30m 0s",
    "{{ $value }}": "230",
    "{{ $value | humanizePercentage }}": {"SaRayErrors": "10%", "SaRayDiskFull": "5%"},
}


def _expected(alert: str, labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
    """The alert with its annotations filled in."""
    filled = {}
    for name, text in annotations.items():
        for place, value in VALUES.items():
            text = text.replace(place, value if isinstance(value, str) else value.get(alert, ""))
        filled[name] = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)
    return {"exp_labels": {"ray_io_cluster": "sa-ray", **labels}, "exp_annotations": filled}
