"""Grafana's dashboard asks for metrics that Ray exports."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from sa_ray.catalogue import VARIANTS
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


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_metrics_are_those_of_rays_own_dashboards(dashboard: dict[str, Any]) -> None:
    known = set(METRIC.findall("".join(file.read_text() for file in PANELS.glob("*.py"))))
    for expression in expressions(dashboard):
        asked = set(METRIC.findall(expression)) - LABELS
        assert asked
        assert asked <= known


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
