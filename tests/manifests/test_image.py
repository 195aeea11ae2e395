"""The image: its requirements, its steps as they are written, and its steps as they run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sa_ray import __version__
from sa_ray.serving.haproxy import ENVIRONMENT
from tests.manifests.agreement import ROOT, Deployment
from tests.manifests.container import Image
from tests.manifests.dockerfile import instructions, stages

IMAGE = ROOT / "cluster" / "image"
DOCKERFILE = IMAGE / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"[A-Za-z0-9_.-]+==[^ ;]+ ")
REQUIREMENTS = (
    *("requirements.txt", "requirements-build.txt", "requirements-bill.txt"),
    "requirements-cuda.txt",
)
PIP = re.compile(r"(?:tools|bill)/bin/pip (?:--python /opt/sa-ray/bin/python )?(?:install|wheel) ")
LABELS = ("title", "version", "description", "licenses")
INSTALLED = """
import json, sysconfig
from importlib.metadata import distributions
found = distributions(path=[sysconfig.get_path("purelib")])
print(json.dumps([[each.metadata["Name"], each.version] for each in found]))
"""


def pins(name: str) -> dict[str, str]:
    """Versions by package, for this Python on this system."""
    lines = (IMAGE / name).read_text().replace("\\\n", " ").splitlines()
    requirements = (Requirement(line.partition("--hash")[0]) for line in lines)
    return {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def runs() -> list[str]:
    return [value for instruction, value in instructions(DOCKERFILE) if instruction == "RUN"]


def test_exporting_again_changes_nothing(tmp_path: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "uv is wanted: `pip install uv`"
    path = f"{Path(uv).parent}{os.pathsep}{os.environ['PATH']}"

    subprocess.run([IMAGE / "export.sh", tmp_path], check=True, env={**os.environ, "PATH": path})

    for name in REQUIREMENTS:
        assert (tmp_path / name).read_text() == (IMAGE / name).read_text(), (
            f"{name} is not what the lock says: run cluster/image/export.sh"
        )


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_by_hash_and_names_no_registry(name: str) -> None:
    text = (IMAGE / name).read_text()

    for requirement in text.replace("\\\n", " ").splitlines():
        assert PIN.match(requirement), requirement
        assert "--hash=sha256:" in requirement, requirement
    assert "://" not in text


def test_every_resolution_arrives_at_what_the_image_installs() -> None:
    exported = {
        line.removesuffix(" \\")
        for name in REQUIREMENTS
        for line in (IMAGE / name).read_text().splitlines()
        if not line.startswith(" ")
    }
    assert exported == set(PROJECT["tool"]["uv"]["constraint-dependencies"]), "run `just upgrade`"


def test_the_image_has_what_was_tested() -> None:
    installed = pins("requirements.txt")
    for name in ("ray", "fastapi", "pydantic", "redis", "psycopg", "boto3", "numpy"):
        assert installed[name] == version(name)

    cuda = pins("requirements-cuda.txt")
    assert installed.items() <= cuda.items()
    assert cuda["torch"] == cuda["torchaudio"]
    assert "stable-audio-3" not in cuda
    assert set(pins("requirements-build.txt")) >= {"hatchling"}
    assert PROJECT["build-system"]["requires"] == PROJECT["dependency-groups"]["image-build"]


def test_the_model_is_the_one_of_the_lock() -> None:
    (commit,) = (
        value.removeprefix("STABLE_AUDIO_3=")
        for instruction, value in instructions(DOCKERFILE)
        if instruction == "ARG" and value.startswith("STABLE_AUDIO_3=")
    )
    source = PROJECT["tool"]["uv"]["sources"]["stable-audio-3"]

    assert commit == source["rev"]
    assert any(f"git+{source['git']}@${{STABLE_AUDIO_3}}" in step for step in runs())


def test_only_hashed_packages_are_installed() -> None:
    commands = [command.strip() for step in runs() for command in step.split("&&")]
    pips = [command for command in commands if "pip install" in command or PIP.match(command)]
    assert len(pips) > len(REQUIREMENTS)

    for command in pips:
        assert PIP.match(command), command
        words = shlex.split(command)
        assert "--no-deps" in words
        by_hash = "--require-hashes" in words
        # What was just built, or is being built, without a resolver or a registry.
        own = any(word.startswith("dist/") for word in words)
        assert by_hash or own or "--no-build-isolation" in words, command
        if by_hash:
            assert words[words.index("--requirement") + 1] in REQUIREMENTS


def test_stages_are_pinned_and_both_targets_end_without_root(deployment: Deployment) -> None:
    found = stages(DOCKERFILE)
    assert {"cpu", "cuda"} <= set(found)

    for image, _ in found.values():
        if image not in found:
            python = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+@sha256:[0-9a-f]{64}", image)
            assert python, image
            assert python[1] in SpecifierSet(PROJECT["project"]["requires-python"])

    (user,) = (value for key, value in found["runtime"][1] if key == "USER")
    for target in ("cpu", "cuda"):
        base, steps = found[target]
        assert base == "runtime"
        keys = [key for key, _ in steps]
        assert [value for key, value in steps if key == "USER"][-1:] in ([], [user])
        assert "RUN" not in keys or keys.count("USER") == 2, "root again, then the user again"

    security = deployment.cluster["headGroupSpec"]["template"]["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"


def test_the_image_does_not_say_which_gpus_it_sees() -> None:
    """Where NVIDIA's runtime is the default, a Pod without GPUs would see all of its node's."""
    env = " ".join(v for k, v in instructions(DOCKERFILE) if k == "ENV")
    assert "NVIDIA_VISIBLE_DEVICES" not in env
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in env


def test_every_ray_node_has_the_environment_that_the_command_prints() -> None:
    """With HAProxy where the image has it."""
    texts = (v.replace("\\\n", " ") for k, v in instructions(DOCKERFILE) if k == "ENV")
    given = dict(pair.split("=", 1) for text in texts for pair in shlex.split(text))
    expected = {**ENVIRONMENT, "RAY_SERVE_HAPROXY_BINARY_PATH": "/opt/sa-ray/bin/sa-ray-haproxy"}
    assert {name: given.get(name) for name in expected} == expected


def test_the_manifests_stop_workers_with_what_the_image_has(deployment: Deployment) -> None:
    copied = [shlex.split(v)[-1] for k, v in instructions(DOCKERFILE) if k == "COPY"]
    for pod in deployment.ray_pods()[1:]:
        (container,) = pod["spec"]["containers"]
        program = container["lifecycle"]["preStop"]["exec"]["command"][0]
        assert f"/own/opt/sa-ray/bin/{program}" in copied


def test_nothing_secret_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"

    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = [
        shlex.split(value)
        for instruction, value in instructions(DOCKERFILE)
        if instruction == "COPY" and "--from" not in value
    ]
    sources = {word for words in copied for word in words[:-1] if not word.startswith("--")}

    assert all(any(Path(source).is_relative_to(name) for name in sent) for source in sources)
    assert not {name for name in sent if name.startswith((".env", "outputs", ".sa-ray"))}


@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestBuilt:
    def test_it_runs_as_nobody_special(self, image: Image) -> None:
        config = image.config()
        done = image.run("id -u && id -g && grep CapBnd /proc/self/status; touch /opt/sa-ray/mine")

        assert config["User"] == "1000:1000"
        assert done.stdout.split() == ["1000", "1000", "CapBnd:", "0" * 16]
        assert "Read-only file system" in done.stderr

    def test_it_says_what_it_is(self, image: Image) -> None:
        labels = image.config()["Labels"]
        project = PROJECT["project"]

        said = {name: labels[f"org.opencontainers.image.{name}"] for name in LABELS}
        assert said == {
            "title": project["name"],
            "version": __version__,
            "description": project["description"],
            "licenses": project["license"],
        }

    def test_the_programs_that_kuberay_and_the_manifests_start_are_there(
        self, image: Image
    ) -> None:
        programs = "bash sleep ray python drain-node"
        done = image.run(f"for name in {programs}; do command -v $name; done")

        assert len(done.stdout.split()) == len(programs.split()), done.stdout

    def test_what_only_builds_stays_out_of_it(self, image: Image) -> None:
        done = image.run(
            "ls -d /build /own /etc/pip.conf; ls /opt/sa-ray/bin | grep -x pip;"
            "for name in gcc git make; do command -v $name; done;"
            "python -c 'import setuptools'"
        )

        assert not done.stdout
        assert "No module named 'setuptools'" in done.stderr

    def test_an_upgrade_brings_a_layer_without_the_packages(self, image: Image) -> None:
        ours, packages, *_ = image.layers()

        assert ours < 10e6 < 300e6 < packages < 800e6

    def test_modules_are_compiled_where_nothing_can_be_written(self, image: Image) -> None:
        show = "import sa_ray.app, ray; print(sa_ray.app.__cached__, ray.__cached__)"
        done = image.run(f"ls $(python -c '{show}')")

        assert done.returncode == 0, done.stderr

    def test_ray_and_the_service_are_of_the_right_versions(self, image: Image) -> None:
        show = "import sa_ray; print(sa_ray.__version__, sa_ray.__file__)"
        done = image.run(f"ray --version && python -c '{show}'")

        assert f"version {version('ray')}" in done.stdout, done.stderr
        assert f"{__version__} /opt/sa-ray/lib" in done.stdout

    def test_the_command_line_works(self, image: Image) -> None:
        (program, *_) = image.config()["Cmd"]
        done = image.run(f"sa-ray --help && sa-ray config && command -v {program}")

        assert done.returncode == 0, done.stderr
        assert "jobs_url" in done.stdout

    def test_the_service_in_it_passes_its_own_check(self, image: Image) -> None:
        command = " ".join(image.config()["Cmd"])
        done = image.run(
            "export STABLE_AUDIO_OUTPUT_DIR=/tmp/outputs STABLE_AUDIO_JOBS_URL=sqlite:////tmp/jobs;"
            f"{command} >/tmp/log 2>&1 & until sa-ray check --json >/tmp/check || ! kill -0 $!;"
            "do sleep 1; done; cat /tmp/check; kill $!; wait $! || cat /tmp/log >&2"
        )

        checks = json.loads(done.stdout)["checks"]
        assert [(one["name"], one["ok"]) for one in checks] == [
            (name, True) for name in ("health", "models", "clip", "job")
        ], done.stderr[-3000:]

    def test_the_bill_says_what_is_in_it(self, image: Image) -> None:
        done = image.run(f"cat /opt/sa-ray/sbom.cdx.json && python -c '{INSTALLED}'")
        bill, end = json.JSONDecoder().raw_decode(done.stdout)

        listed = {entry["name"]: entry["version"] for entry in bill["components"]}
        purls = {entry["purl"] for entry in bill["components"] if "purl" in entry}
        assert bill["bomFormat"] == "CycloneDX"
        own = bill["metadata"]["component"]
        assert (own["name"], own["version"]) == ("sa-ray", __version__)
        for name, pinned in pins("requirements.txt").items():
            assert f"pkg:pypi/{name}@{pinned}" in purls
        for name, installed in json.loads(done.stdout[end:]):
            known = listed | {"sa-ray": __version__}
            assert known[name] == installed, name

    def test_what_the_cuda_target_installs_can_be_had(self, tmp_path: Path) -> None:
        """Every package by its hash; three gigabytes, so they are not downloaded."""
        done = subprocess.run(
            [
                *("uv", "pip", "install", "--dry-run", "--require-hashes", "--no-deps"),
                *("--target", tmp_path / "cuda"),
                *("--requirement", IMAGE / "requirements-cuda.txt"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert "+ torch==" in done.stderr
