"""The disk that holds the job store and the output folder fills up, and is freed again."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import Deploy
from .rows import Row

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

DISK_MIB = 192
FULL_S = 8.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"NO DISK WAS FILLED: only root may mount one. {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    return filler


def test_the_disk_is_full(deploy: Deploy, disk: Path) -> None:
    service = deploy(disk)
    row = Row(service, "disk full for 8 s (jobs and audio)")

    for _ in row.moments(2):
        filler = fill(disk)
        time.sleep(FULL_S)
        filler.unlink()

    row.finish()

    half_written = disk / "outputs" / ".sa-ray-partial"
    service.until(lambda: not any(half_written.iterdir()))
