"""Processes are killed with SIGKILL under load; no accepted job is lost or done twice."""

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
from ray import serve

from sa_ray.app import build
from sa_ray.local import free_port

from .load import JOBS, Client, assert_nothing_lost_or_doubled

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

KILLS = 3
VICTIMS = {
    "variant replica": "ray::ServeReplica:sa-ray:small-sfx",
    "ingress replica": "ray::ServeReplica:sa-ray:ingress",
    "dispatcher": "ray::ServeReplica:sa-ray:dispatcher",
    "uploader": "ray::Uploader",
    "job actor": "ray::JobActor",
    "Serve controller": "ray::ServeController",
    "HTTP proxy": "ray::ProxyActor",
}

rows: list[str] = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def base_url(folder: Path) -> Iterator[str]:
    ray.init(
        address="local", num_cpus=6, namespace="serve", include_dashboard=False,
        log_to_driver=False, logging_level="error",
    )  # fmt: skip
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = {
        "jobs_url": f"sqlite:///{folder}/jobs.db",
        "output_dir": f"{folder}/outputs",
        "engine": "procedural",
        "preload_models": "small-sfx,small-music",
        "ingress_replicas": 2,
    }
    serve.run(build(settings), name="sa-ray", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()
    print("\n| victim | kills | jobs | lost | duplicated | attempts over 1 | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


@pytest.fixture(scope="module")
def outputs(folder: Path) -> Path:
    return folder / "outputs"


@pytest.fixture(scope="module")
def expected(base_url: str, outputs: Path) -> dict[int, str]:
    """The digest of each job's audio in a run without faults, by seed."""
    views = run_load(base_url, "calm")
    assert [view["status"] for view in views] == ["succeeded"] * JOBS
    forget(base_url, views)
    assert not [path for path in outputs.iterdir() if not path.name.startswith(".")]
    return {view["seed"]: view["sha256"] for view in views}


def run_load(base_url: str, run: str) -> list[dict[str, object]]:
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda index: Client(base_url).submit(index, run), range(JOBS)))
        return list(pool.map(Client(base_url).wait, ids))


def forget(base_url: str, views: list[dict[str, object]]) -> None:
    for view in views:
        Client(base_url)._request("DELETE", f"/jobs/{view['id']}")


def processes(title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith(title):
            found.append(process)
    return found


def kill_one(title: str, chance: random.Random) -> None:
    deadline = time.monotonic() + 60
    while not (alive := processes(title)):
        assert time.monotonic() < deadline, f"no {title} came back"
        time.sleep(0.1)
    chance.choice(alive).send_signal(signal.SIGKILL)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_three_times_under_load(
    base_url: str, outputs: Path, expected: dict[int, str], victim: str
) -> None:
    chance = random.Random(victim)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run_load, base_url, victim)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 4))
            kill_one(VICTIMS[victim], chance)
        views = load.result()

    rows.append(
        f"| {victim} | {KILLS} | {JOBS} | {sum(v['status'] != 'succeeded' for v in views)} | "
        f"{len(views) - len({v['storage_key'] for v in views})} | "
        f"{sum(v['attempts'] > 1 for v in views)} | {time.monotonic() - started:.0f} |"
    )
    assert_nothing_lost_or_doubled(views, expected, outputs)
    forget(base_url, views)
