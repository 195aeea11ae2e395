"""The table of metrics."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sa_ray.local.private_ray import private_environment
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


RECORDING = """
from sa_ray.serving import metrics
metrics.REQUESTS.add(method="GET", route="/health", status="2xx")
metrics.STORE_UP.set(1.0, store="jobs")
metrics.AUDIO_RTF.observe(0.1, variant="medium")
print([one.name for one in metrics.METRICS if one.is_recorded])
"""


@pytest.mark.parametrize(
    ("is_private", "recorded"),
    [(True, "[]"), (False, "['sa_ray_requests', 'sa_ray_audio_rtf', 'sa_ray_store_up']")],
)
def test_a_private_ray_collects_nothing_and_nothing_is_recorded_in_it(
    tmp_path: Path, *, is_private: bool, recorded: str
) -> None:
    tmp_path.chmod(0o700)
    environment = private_environment(tmp_path) if is_private else dict(os.environ)
    command = [sys.executable, "-c", RECORDING]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == recorded
