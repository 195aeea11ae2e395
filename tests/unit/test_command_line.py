"""What holds of every command: JSON, pipes, exit codes."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from sa_ray import __version__
from sa_ray.cli.commands import app
from tests.support.commands import BIN, at_terminal, run_here
from tests.support.scripted_server import Answer, as_json, serving
from tests.unit.test_client import ACCEPTED, JOB_ID, VIEW

PRINT_NO_RESULTS = {"serve", "mcp", "completion"}


def test_every_command_that_prints_results_prints_them_as_json() -> None:
    lacking = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for one in getattr(command, "commands", {name: command}).values():
            if not any("--json" in option.opts for option in one.params):
                lacking.add(name)

    assert lacking == PRINT_NO_RESULTS


@pytest.mark.parametrize(
    ("arguments", "status", "code", "param"),
    [
        (["jobs", "show"], 2, "usage", None),
        (["version", "--jsno"], 2, "usage", None),
        (["generate", "rain", "-o", "rain.aac"], 2, "usage", None),
        (["generate", "rain", "-n", "99"], 2, "invalid_request", "n"),
        (["generate", "rain", "-o", "none/rain.wav"], 2, "usage", None),
        (["generate", "rain", "-o", "folder.wav"], 2, "usage", None),
        (["batch", "rain.jsonl", "-o", "rain.jsonl/clips"], 1, "file", None),
        (["batch", "none.csv", "-o", "out"], 2, "usage", None),
        (["models", "http://[::"], 2, "usage", None),
        (["keys", "list"], 1, "configuration_error", None),
    ],
)
def test_errors_are_json_where_results_are(
    tmp_path: Path, arguments: list[str], status: int, code: str, param: str | None
) -> None:
    (tmp_path / "rain.jsonl").write_text('{"prompt": "rain"}')
    (tmp_path / "folder.wav").mkdir()

    words = run_here(*arguments, cwd=tmp_path)
    ended = run_here(*arguments, "--json", cwd=tmp_path)

    assert (words.returncode, words.stdout) == (ended.returncode, ended.stdout) == (status, "")
    error = json.loads(ended.stderr)["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"]
    assert not words.stderr.startswith("{")
    assert "\x1b" not in words.stderr + ended.stderr


def test_settings_and_a_new_key_are_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLE_AUDIO_API_KEYS_FILE", str(tmp_path / "keys.yaml"))
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")

    made = json.loads(run_here("keys", "create", "anna", "--json", cwd=tmp_path).stdout)
    config = run_here("config", "--json", cwd=tmp_path).stdout
    revoked = json.loads(run_here("keys", "revoke", "anna", "--json", cwd=tmp_path).stdout)
    version = json.loads(run_here("version", "--json", cwd=tmp_path).stdout)

    assert set(made) == {"name", "key"}
    assert made["key"].strip()
    settings = {one["setting"]: one for one in json.loads(config)}
    assert settings["hf_token"] == {
        "setting": "hf_token", "value": "********", "variable": "HF_TOKEN"
    }  # fmt: skip
    assert made["key"] not in config
    assert "hf_very_secret" not in config
    assert revoked == {"name": "anna", "revoked": "all"}
    assert version == {"version": __version__}


def test_a_row_stays_one_line_and_commands_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLE_AUDIO_API_KEYS_FILE", str(tmp_path / "keys.yaml"))
    run_here("keys", "create", "anna", "--note", "on\tthe\nthird \x1b]0;floor\x07", cwd=tmp_path)

    [row] = run_here("keys", "list", cwd=tmp_path).stdout.splitlines()

    assert row.split("\t")[-1] == "on the third  ]0;floor "


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    with contextmanager(serving)() as server:
        server.asked(Answer(404))
        place = server.url.removeprefix("http://")
        ended = run_here("check", f"anna:geheim@{place}", "--json", cwd=tmp_path)

    assert json.loads(ended.stdout)["url"] == server.url
    assert "geheim" not in ended.stdout + ended.stderr


def run_into(output: TextIO | int, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is ``output``, a file or its descriptor."""
    return subprocess.run(
        [str(BIN / "sa-ray"), command],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        ended = run_into(full, "version")

    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "None" not in ended.stderr
    assert "Exception" not in ended.stderr


def test_a_clip_that_could_not_be_written_can_be_had_later(tmp_path: Path) -> None:
    (tmp_path / "rain.wav.part").mkdir()  # stands for whatever keeps it from being written
    with contextmanager(serving)() as server:
        done = as_json(VIEW | {"download_url": f"{server.url}/audio"})
        server.asked(as_json({"status": "ok"}), as_json(ACCEPTED), done, Answer(body=b"audio"))
        ended = run_here("generate", "x", "-o", "rain.wav", "--url", server.url, cwd=tmp_path)

    assert ended.returncode == 1
    assert f"sa-ray jobs download {JOB_ID}" in ended.stderr
    assert "rain.wav.part: Is a directory" in ended.stderr


def test_watching_a_job_tells_what_is_wrong_with_each_of_its_files(tmp_path: Path) -> None:
    made = {
        "seed": 1, "size_bytes": 1, "sha256": "0" * 64, "audio_duration": 1.0, "download_url": None,
        "storage_key": "k",
    }  # fmt: skip
    results = [made | {"index": at, "warning": w} for at, w in enumerate([None, "It is silent."])]
    with contextmanager(serving)() as server:
        server.asked(as_json({"status": "ok"}), as_json(VIEW | {"n": 2, "results": results}))
        ended = run_here("jobs", "watch", JOB_ID, "--url", server.url, cwd=tmp_path)

    assert (ended.returncode, ended.stdout) == (0, "succeeded\n")
    assert "It is silent." in ended.stderr


def test_a_reader_that_stops_reading_gets_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = run_into(writing, "config")
    finally:
        os.close(writing)

    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_server_for_assistants_ends_at_a_terminal(tmp_path: Path) -> None:
    shown, status = at_terminal("mcp", cwd=tmp_path, interrupt_at="on standard input")

    assert status == 130, shown
    assert "Interrupted." in shown
    assert "Traceback" not in shown


def test_without_the_extra_it_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in sys.modules if one.split(".")[:2] == ["sa_ray", "mcp"]]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("mcp", "mcp.server"):
        monkeypatch.setitem(sys.modules, name, None)

    ended = run_here("mcp", cwd=tmp_path)

    assert ended.returncode == 1
    assert "pip install 'sa-ray[mcp]'" in ended.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_to_complete(tmp_path: Path, shell: str) -> None:
    script = run_here("completion", shell, cwd=tmp_path).stdout
    completed = CliRunner().invoke(
        app,
        prog_name="sa-ray",
        env={
            "_SA_RAY_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": "sa-ray regen",
            "COMP_CWORD": "1",
            "_TYPER_COMPLETE_ARGS": "sa-ray regen",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    )

    assert "_SA_RAY_COMPLETE" in script
    assert "regenerate" in completed.stdout
