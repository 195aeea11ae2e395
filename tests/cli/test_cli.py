"""The command line as a user types it. Starts Ray clusters of its own, so it runs first."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import soundfile

from sa_ray.errors import ConfigurationError
from sa_ray.local import LocalService, free_port
from tests.support.commands import BIN, MARK, left_running, marked, run


def test_demo_makes_a_file_and_leaves_nothing_running(tmp_path: Path, mark: str) -> None:
    result = run(
        "sa-ray", "demo", "rain on a tin roof", "-o", "rain.wav", "--duration", "3.5",
        "--seed", "7", cwd=tmp_path, **{MARK: mark},
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    info = soundfile.info(tmp_path / "rain.wav")
    assert (info.samplerate, info.channels, info.frames) == (44_100, 2, int(3.5 * 44_100))
    assert re.search(r"model\s+small-sfx", result.stdout)
    assert re.search(r"engine\s+procedural", result.stdout)
    assert re.search(r"seed\s+7", result.stdout)
    assert str(tmp_path / "rain.wav") in result.stdout
    assert "not Stable Audio 3" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rain.wav"]
    assert not left_running(mark)


def test_a_terminated_demo_takes_its_cluster_along(tmp_path: Path, mark: str) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(BIN / "sa-ray"), "demo"],
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            env={**os.environ, MARK: mark},
        ) as process,
    ):
        deadline = time.monotonic() + 120
        while "raylet" not in marked(mark).values():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

        process.terminate()

        assert process.wait(90) == 128 + signal.SIGTERM, log.read_text()

    assert not left_running(mark)


def test_demo_says_what_is_wrong_before_it_starts_anything(tmp_path: Path) -> None:
    for arguments, hint in [
        (["-o", "rain.aac"], ".wav"),
        (["--duration", "0"], "duration"),
        (["--model", "large"], "small-music"),
    ]:
        result = run("sa-ray", "demo", "rain", *arguments, cwd=tmp_path)

        assert result.returncode != 0
        assert hint in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.cluster
def test_the_old_servers_command_serves_on_the_address_it_is_given(
    tmp_path: Path, mark: str
) -> None:
    port = free_port()
    log = (tmp_path / "log").open("wb")
    with subprocess.Popen(
        [str(BIN / "stable-audio-api"), "--host", "127.0.0.1", "--port", str(port)],
        cwd=tmp_path,
        stdout=log,
        stderr=log,
        env={**os.environ, "RAY_ADDRESS": "local", MARK: mark},
    ) as process:
        try:
            health = None
            deadline = time.monotonic() + 120
            while health is None and time.monotonic() < deadline and process.poll() is None:
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/health")
                    if answer.status_code == 200 and answer.json()["status"] == "ok":
                        health = answer.json()
                except httpx.TransportError:
                    pass

            assert health is not None, (tmp_path / "log").read_text()
            assert health["loaded_models"] == ["small-sfx"]
            assert "raylet" in marked(mark).values()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    assert not left_running(mark)


def test_config_prints_effective_values_and_masks_secrets(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STABLE_AUDIO_MAX_STEPS=33\nHF_TOKEN=hf_very_secret\n")

    result = run("sa-ray", "config", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert re.search(r"max_steps\W+33\W+STABLE_AUDIO_MAX_STEPS", result.stdout)
    assert "hf_very_secret" not in result.stdout
    assert "****" in result.stdout


def test_config_cuts_no_value_in_a_pipe(tmp_path: Path) -> None:
    long = f"https://cdn.example/{'audio/' * 40}"

    result = run("sa-ray", "config", cwd=tmp_path, STABLE_AUDIO_PUBLIC_URL=long, COLUMNS="40")

    assert f"public_url\t{long.rstrip('/')}\tSTABLE_AUDIO_PUBLIC_URL\n" in result.stdout


def test_config_refuses_what_build_would_refuse(tmp_path: Path) -> None:
    result = run("sa-ray", "config", cwd=tmp_path, STABLE_AUDIO_MAX_STEP="5")

    assert result.returncode == 1
    assert "Did you mean STABLE_AUDIO_MAX_STEPS" in result.stderr
    assert "Traceback" not in result.stderr


def test_importing_the_application_loads_no_torch(tmp_path: Path) -> None:
    code = "import sa_ray.app, sys, json; print(json.dumps('torch' in sys.modules))"

    result = run("python", "-c", code, cwd=tmp_path)

    assert json.loads(result.stdout) is False


def test_a_service_that_cannot_start_says_why(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, mark)

    with pytest.raises(ConfigurationError, match="Did you mean max_steps"):
        LocalService(tmp_path, {"max_stepz": 3})

    assert not marked(mark)
