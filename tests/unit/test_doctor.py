"""`sa-ray doctor`: each line passes, or says how to mend it."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sa_ray.cli.commands import app
from sa_ray.settings import StorageSettings
from tests.support.keys import write_keys
from tests.support.object_stores import s3_settings
from tests.support.s3_server import S3Server


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    monkeypatch.setenv("STABLE_AUDIO_ENGINE", "procedural")


def said(expected: int) -> dict[str, dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = CliRunner().invoke(app, ["doctor", "--json", "--port", str(port)])
    assert result.exit_code == expected, result.output
    return {line["name"]: line for line in json.loads(result.stdout)["checks"]}


def test_a_machine_that_can_run_it_is_well_and_left_as_it_was(tmp_path: Path) -> None:
    lines = said(0)

    assert [name for name, line in lines.items() if not line["ok"]] == []
    assert "procedural" in lines["engine"]["said"]
    assert lines["keys"]["said"].endswith("clients on this machine alone")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["taken"]


@pytest.mark.parametrize(
    ("line", "variable", "value", "told"),
    [
        ("settings", "STABLE_AUDIO_MAX_STEPS", "many", "STABLE_AUDIO_MAX_STEPS"),
        ("engine", "STABLE_AUDIO_ENGINE", "stable-audio-3", "install the extra"),
        ("jobs", "STABLE_AUDIO_JOBS_URL", "redis://127.0.0.1:1/0", "STABLE_AUDIO_JOBS_URL"),
        (
            "jobs",
            "STABLE_AUDIO_JOBS_URL",
            "postgresql://me@127.0.0.1:1/x",
            "postgresql+psycopg://me@",
        ),
        ("jobs", "STABLE_AUDIO_JOBS_URL", "sqlite:///taken/jobs.db", "cannot be written"),
        ("storage", "STABLE_AUDIO_OUTPUT_DIR", "/proc/outputs", "/proc/outputs"),
        ("keys", "STABLE_AUDIO_API_KEYS_FILE", "none.yaml", "none.yaml"),
    ],
)
def test_what_is_wrong_is_told_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, line: str, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)

    found = said(1)[line]

    assert not found["ok"]
    assert told in found["said"]


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["doctor", "--port", port])

    assert result.exit_code == 1
    [failed] = [row for row in result.stdout.splitlines() if row.startswith("FAILS")]
    assert f"{port} cannot be listened on" in failed


def test_a_bucket_and_a_file_of_keys_are_looked_at(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_keys(tmp_path / "keys.yaml", {"name": "anna", "scopes": ["generate"]})
    monkeypatch.setenv("STABLE_AUDIO_API_KEYS_FILE", str(tmp_path / "keys.yaml"))
    for name, value in s3_settings(s3_server).items():
        monkeypatch.setenv(StorageSettings.variables(name)[0], value)

    lines = said(0)

    assert lines["storage"]["said"].startswith("s3://")
    assert lines["keys"]["said"] == f"in {tmp_path}/keys.yaml"
