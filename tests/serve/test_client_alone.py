"""The distribution of the client alone, as its users install it, and a running service."""

import subprocess
import sys
from pathlib import Path

import pytest

from sa_ray import __version__
from tests.support.service import Service

pytestmark = pytest.mark.cluster  # installs packages

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, importlib.util, sys
import sa_ray
from sa_ray.client import AsyncClient, Client
from sa_ray.contracts import GenerationRequest

url, version, *absent = sys.argv[1:]
assert sa_ray.__version__ == version
assert [name for name in absent if importlib.util.find_spec(name)] == []
request = GenerationRequest(prompt="rain", duration=0.5, seed=1)
with Client(url) as client:
    clip = client.generate(request)
assert clip.startswith(b"RIFF")

async def again():
    async with AsyncClient(url) as client:
        accepted = await client.submit(request)
        *_, last = [event async for event in client.events(accepted.id)]
        assert last.type == "succeeded", last
        return await client.generate(request)

assert asyncio.run(again()) == clip
"""

ABSENT = (
    *("ray", "fastapi", "starlette", "numpy", "sqlalchemy", "boto3", "typer"),
    *("sa_ray.serving", "sa_ray.cli", "sa_ray.jobs"),
)


def test_it_makes_clips_without_what_only_the_service_needs(
    service: Service, tmp_path: Path
) -> None:
    def run(*command: str | Path) -> None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    python, pins = tmp_path / "venv" / "bin" / "python", tmp_path / "pins.txt"
    # First a source distribution, and of that the wheel.
    run("uv", "build", "--quiet", "packages/client", "--out-dir", tmp_path / "dist")
    run("uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(*("uv", "export", "--quiet", "--no-dev", "--no-emit-project", "--no-hashes"), "-o", pins)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    run("uv", "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel)

    run(python, "-I", "-c", PROGRAM, service.base_url, __version__, *ABSENT)
