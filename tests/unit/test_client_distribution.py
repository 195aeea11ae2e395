"""What the distribution of the client alone has in common with that of the service."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALONE = ROOT / "packages" / "client"


def test_bounds_of_dependencies_and_the_license_are_those_of_the_service() -> None:
    service, alone = (
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
        for folder in (ROOT, ALONE)
    )
    assert set(alone) < set(service)
    assert (ALONE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
