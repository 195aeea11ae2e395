"""The files for `ray up`: Ray's schema, and the same agreement as the manifests."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from tests.manifests.agreement import ROOT, Group, config_problems
from tests.manifests.test_image import PROJECT

LAUNCHER = ROOT / "cluster" / "launcher"
INSTALLED = ("requirements-build.txt", "requirements-cuda.txt")
FILES = ("aws.yaml", "gcp.yaml")
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.fixture(params=FILES)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((LAUNCHER / request.param).read_text())
    return loaded


def nodes(cluster: dict[str, Any]) -> list[Group]:
    return [
        Group(
            name=name,
            cpus=kind["resources"].get("CPU", 0),
            gpus=kind["resources"].get("GPU", 0),
            least=kind["min_workers"],
            most=kind["max_workers"],
            labels=kind.get("labels", {}),
        )
        for name, kind in cluster["available_node_types"].items()
        if name != cluster["head_node_type"]
    ]


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    jsonschema.validate(cluster, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["max_worker"], 6),
        (["max_workers"], "6"),
        (["docker"], {"images": "x"}),
        (["available_node_types", "gpu", "resources"], {"GPU": "one"}),
    ],
    ids=["unknown key", "wrong type", "unknown key of docker", "wrong type of a resource"],
)
def test_ray_refuses_what_is_broken(cluster: dict[str, Any], path: list[str], value: Any) -> None:
    broken = copy.deepcopy(cluster)
    *parents, key = path
    place = broken
    for parent in parents:
        place = place[parent]
    place[key] = value

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_the_application_has_room(cluster: dict[str, Any]) -> None:
    config = yaml.safe_load((LAUNCHER / "serve_config.yaml").read_text())

    assert list(config_problems(config, nodes(cluster))) == []
    assert cluster["max_workers"] == sum(group.most for group in nodes(cluster))


def test_the_head_does_no_work_and_nodes_want_a_token(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}

    head_start, worker_start = (
        cluster[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")
    )

    assert "--num-cpus=0" in head_start
    for command in (head_start, worker_start):
        assert "RAY_AUTH_MODE=token" in command
        assert ". ~/.sa-ray.env" in command


def test_nodes_install_what_the_image_has(cluster: dict[str, Any]) -> None:
    commands = "\n".join(cluster["setup_commands"])
    assert all(f"cluster/image/{name}" in commands for name in INSTALLED)
    assert "--require-hashes" in commands

    source = PROJECT["tool"]["uv"]["sources"]["stable-audio-3"]
    assert f"git+{source['git']}@{source['rev']}" in commands


def test_secrets_stay_out_of_the_repository(cluster: dict[str, Any]) -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    local = [Path(source) for source in cluster["file_mounts"].values()]

    assert Path("cluster/launcher/secrets.env") in local
    assert {"secrets.env", "cluster/launcher/auth_token"} <= set(ignored)
    # rsync leaves out what git ignores, but for what is mounted by its own name.
    assert cluster["rsync_filter"] == [".gitignore"]


def test_each_node_on_aws_has_a_profile_of_its_users() -> None:
    """The role that Ray makes for a head without one may not launch workers that have a role."""
    loaded = yaml.safe_load((LAUNCHER / "aws.yaml").read_text())
    for kind in loaded["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"] == {"Arn": "CHANGE-ME"}
