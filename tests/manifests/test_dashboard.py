"""Grafana's dashboard asks for metrics that there are, and for all of ours."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.serve._private import event_loop_monitoring

from sa_ray.catalogue import VARIANTS
from sa_ray.serving.metrics import METRICS, Metric
from tests.manifests.agreement import Deployment

PANELS = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
METRIC = re.compile(r"\bray_[a-z_]+")
LABELS = {"ray_io_cluster"}


@pytest.fixture
def dashboard(of_ones_own: Deployment) -> dict[str, Any]:
    (config_map,) = of_ones_own.of_kind("ConfigMap")
    assert config_map["metadata"]["labels"] == {"grafana_dashboard": "1"}
    loaded: dict[str, Any] = json.loads(config_map["data"]["sa-ray.json"])
    return loaded


def series_of(metric: Metric) -> set[str]:
    """The names under which Prometheus keeps it."""
    if metric.kind != "histogram":
        return {metric.exported}
    return {f"{metric.exported}_{part}" for part in ("bucket", "sum", "count")}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_metrics_are_ours_or_rays_own(dashboard: dict[str, Any]) -> None:
    rays = set(METRIC.findall("".join(file.read_text() for file in PANELS.glob("*.py"))))
    loops = re.findall(r'"(serve_event_loop_\w+_ms)"', inspect.getsource(event_loop_monitoring))
    rays |= {f"ray_{name}_bucket" for name in loops}
    known = rays | {series for metric in METRICS for series in series_of(metric)}
    for expression in expressions(dashboard):
        asked = set(METRIC.findall(expression)) - LABELS
        assert asked
        assert asked <= known


def test_every_metric_of_ours_is_on_a_panel(dashboard: dict[str, Any]) -> None:
    asked = {name for one in expressions(dashboard) for name in METRIC.findall(one)}

    assert [metric.name for metric in METRICS if not asked & series_of(metric)] == []


def test_panels_group_by_labels_that_their_metric_has(dashboard: dict[str, Any]) -> None:
    by_series = {series: metric for metric in METRICS for series in series_of(metric)}
    for expression in expressions(dashboard):
        for name in set(METRIC.findall(expression)) & set(by_series):
            grouped = {
                label.strip()
                for labels in re.findall(r"by \(([^)]*)\)", expression)
                for label in labels.split(",")
            }
            assert grouped <= {*by_series[name].labels, "le"}, expression


def test_panels_name_the_application_and_its_variants(dashboard: dict[str, Any]) -> None:
    names = "|".join(VARIANTS)
    for expression in expressions(dashboard):
        if "ray_serve_" in expression:
            assert 'application="sa-ray"' in expression
        if "deployment=~" in expression:
            assert f'deployment=~"{names}"' in expression


def test_panels_are_apart(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels)
