"""``sa-ray regenerate``: a file of the service is made again from its own tags."""

from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.service import Service


@pytest.mark.parametrize("fmt", ["wav", "mp3"])
def test_a_file_is_made_again_byte_for_byte(service: Service, tmp_path: Path, fmt: str) -> None:
    made = service.generate(prompt="Glocken 🔔", duration=0.7, format=fmt, channels=1).content
    (tmp_path / f"bell.{fmt}").write_bytes(made)

    result = run("sa-ray", "regenerate", f"bell.{fmt}", "--url", service.base_url, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"bell-again.{fmt}"
    assert "byte for byte" in result.stderr
    assert (tmp_path / f"bell-again.{fmt}").read_bytes() == made


def test_a_file_of_another_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "bell.wav").write_bytes(b"RIFF")

    result = run("sa-ray", "regenerate", "bell.wav", "--url", service.base_url, cwd=tmp_path)

    assert result.returncode == 1
    assert "not an audio file" in result.stderr
    assert "Traceback" not in result.stderr
