"""The files for one machine: a unit of systemd and a Compose file."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sa_ray.local.supervisor import STOP_TIMEOUT_S
from tests.manifests.agreement import ROOT
from tests.support.commands import run

FOLDER = ROOT / "cluster" / "one-machine"
UNIT = FOLDER / "sa-ray.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # as documented
    parser.read(UNIT)
    return parser


def compose() -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    service: dict[str, Any] = document["services"]["sa-ray"]
    assert service["volumes"] == ["data:/home/ray"]
    assert "data" in document["volumes"]
    return service


@pytest.mark.parametrize("where", ["unit", "compose"])
def test_the_command_has_the_options_that_it_is_given(where: str, tmp_path: Path) -> None:
    command = (
        shlex.split(unit()["Service"]["ExecStart"]) if where == "unit" else compose()["command"]
    )

    name = Path(command[0]).name
    help_text = run(name, "--help", cwd=tmp_path).stdout

    assert name in ("stable-audio-api", "sa-ray")
    assert [
        option for option in command if option.startswith("--") and option not in help_text
    ] == []


def test_there_is_time_to_stop_in_order_before_the_rest_is_killed() -> None:
    service = unit()["Service"]

    assert service["KillMode"] == "mixed", "the command alone is to be told"
    assert int(service["TimeoutStopSec"]) > STOP_TIMEOUT_S
    assert int(compose()["stop_grace_period"].removesuffix("s")) > STOP_TIMEOUT_S


def test_a_command_that_gives_up_is_started_again() -> None:
    assert unit()["Service"]["Restart"] == "on-failure"
    assert compose()["restart"] in ("on-failure", "unless-stopped")


def test_compose_builds_an_image_that_there_is() -> None:
    build = compose()["build"]
    root = (FOLDER / build["context"]).resolve()
    dockerfile = (root / build["dockerfile"]).read_text()

    assert root == ROOT
    assert re.search(rf"^FROM .* AS {build['target']}$", dockerfile, re.MULTILINE)
    assert re.search(r"^WORKDIR /home/ray$", dockerfile, re.MULTILINE), "where its files go"


def test_compose_publishes_to_this_machine_only() -> None:
    assert [port for port in compose()["ports"] if not port.startswith("127.0.0.1:")] == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="NOT CHECKED by systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/sa-ray/bin", str(Path(sys.executable).parent)))

    verified = subprocess.run(
        ["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False
    )

    assert (verified.returncode, verified.stderr) == (0, "")
