"""The table of metrics."""

import re
from pathlib import Path

import pytest

from sa_ray.serving import metrics

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


def test_names_and_labels_are_what_prometheus_takes() -> None:
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    for metric in metrics.METRICS:
        assert re.fullmatch(r"sa_ray_[a-z_]+", metric.name)
        assert metric.exported.startswith("ray_sa_ray_")
        assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)


def test_the_documentation_has_the_table() -> None:
    assert metrics.markdown() in OPERATING.read_text()


def test_keys_are_told_apart_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_keys", set())
    names = [f"key-{number}" for number in range(metrics.MAX_KEYS)]

    assert metrics.key_label("") == "anonymous"
    assert [metrics.key_label(name) for name in names] == names
    assert metrics.key_label("one-more") == "other"
    assert metrics.key_label("key-0") == "key-0"
