"""What the recipes show, done as their reader would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from tests.support.commands import BIN
from tests.support.service import Service

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "recipes"


def follow(recipe: str, service: Service, folder: Path, *arguments: str) -> list[str]:
    """Run the script of a recipe in ``folder``, against ``service``; return what it prints."""
    # The receiver of webhooks takes any free port.
    text = (RECIPES / recipe).read_text().replace("8008", "0")
    return run(text, recipe.endswith(".py"), service, folder, *arguments)


def run(script: str, is_python: bool, service: Service, folder: Path, *arguments: str) -> list[str]:
    if not is_python and not (shutil.which("curl") and shutil.which("jq")):
        pytest.skip("curl and jq are not installed")
    assert "http://localhost:8000" in script
    script = script.replace("http://localhost:8000", service.base_url)
    interpreter = [sys.executable, "-c", script] if is_python else ["bash", "-ec", script, "bash"]
    result = subprocess.run(
        [*interpreter, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def length(file: Path) -> float:
    return float(soundfile.info(file).duration)


def test_a_folder_of_takes_from_a_table(calling: Service, tmp_path: Path) -> None:
    shutil.copy(RECIPES / "takes.csv", tmp_path)

    printed = follow("takes.sh", calling, tmp_path)

    files = {file.relative_to(tmp_path / "takes") for file in tmp_path.glob("takes/*/*.wav")}
    assert {str(file) for file in files} == {
        *(f"steps/{floor}-{take}.wav" for floor in ("gravel", "wood") for take in (1, 2, 3)),
        "doors/barn-1.wav",
        "doors/barn-2.wav",
    }
    assert "steps/gravel-2.wav\t101" in printed


def test_a_part_of_a_recording_is_replaced(calling: Service, tmp_path: Path) -> None:
    (tmp_path / "street.wav").write_bytes(calling.generate(duration=4.0).content)

    follow("replace.py", calling, tmp_path)

    street, rate = soundfile.read(tmp_path / "street.wav")
    takes = [soundfile.read(file)[0] for file in tmp_path.glob("street-*.wav")]
    assert len(takes) == 3
    new = slice(int(1.5 * rate), int(3.0 * rate))
    for take in takes:
        np.testing.assert_array_equal(take[: new.start], street[: new.start])
        np.testing.assert_array_equal(take[new.stop :], street[new.stop :])
        assert not np.array_equal(take[new], street[new])


def test_a_loop_for_a_game_engine(calling: Service, tmp_path: Path) -> None:
    follow("loop.py", calling, tmp_path)

    info = soundfile.info(tmp_path / "campfire.wav")
    assert (info.samplerate, info.channels, info.frames) == (48_000, 1, 4 * 48_000)
    assert b"smpl" in (tmp_path / "campfire.wav").read_bytes()


def test_a_sound_is_made_longer(calling: Service, tmp_path: Path) -> None:
    (tmp_path / "rain.wav").write_bytes(calling.generate(duration=2.0).content)

    follow("longer.py", calling, tmp_path)

    assert length(tmp_path / "longer.wav") == 1.0 + 2.0 + 6.0


def test_a_webhook_is_received_and_verified(calling: Service, tmp_path: Path) -> None:
    printed = follow("webhook.py", calling, tmp_path)

    assert printed[0].strip() == "succeeded"
    assert length(tmp_path / "bell.wav") == 2.0


def test_a_job_by_curl_and_jq(calling: Service, tmp_path: Path) -> None:
    follow("job.sh", calling, tmp_path)

    assert length(tmp_path / "bell.wav") == 3.0


def test_a_job_is_watched_by_its_events(calling: Service, tmp_path: Path) -> None:
    *changes, link = follow("watch.sh", calling, tmp_path)

    assert changes[-1] == "succeeded 100"
    assert httpx.head(link).status_code == 200


def test_a_batch_that_is_repeated_makes_no_job_twice(calling: Service, tmp_path: Path) -> None:
    first = follow("nightly.py", calling, tmp_path, "ambiences-1")
    files = sorted((tmp_path / "ambiences-1").iterdir())
    made = [file.read_bytes() for file in files]
    assert len(files) == 3
    files[0].unlink()

    again = follow("nightly.py", calling, tmp_path, "ambiences-1")

    assert again == first
    assert [file.read_bytes() for file in files] == made


def test_a_clip_is_passed_on_from_a_bucket(on_s3: Service, tmp_path: Path) -> None:
    stored, link = follow("bucket.py", on_s3, tmp_path)

    backend, key, digest = stored.split()
    assert (backend, key.rpartition(".")[2]) == ("s3", "flac")
    assert link.startswith(str(on_s3.settings["storage_endpoint_url"]))
    assert len(httpx.get(link).content) > 1000
    assert len(digest) == 64


def test_the_examples_of_the_readme(calling: Service, tmp_path: Path) -> None:
    blocks = re.findall(r"```(python|sh)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = [(kind, text) for kind, text in blocks if "http://localhost:8000" in text]
    assert [kind for kind, _ in shown] == ["python", "sh"]

    for kind, text in shown:
        run(text, kind == "python", calling, tmp_path)

    made = {file.name: length(file) for file in tmp_path.iterdir()}
    assert made == {"rain.wav": 5.0, "thunder.wav": 5.0, "train.wav": 7.0}


def test_every_recipe_is_followed_here() -> None:
    tests = Path(__file__).read_text()
    scripts = [file.name for file in RECIPES.iterdir() if file.suffix in (".py", ".sh")]
    assert len(scripts) >= 8

    assert [name for name in scripts if json.dumps(name) not in tests] == []
