"""Processes are killed with SIGKILL under load; no accepted job is lost or done twice."""

import random
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from .load import Chaos

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


@pytest.fixture(scope="module")
def chaos(deploy: Callable[[str], Chaos]) -> Chaos:
    chaos = deploy("sqlite:///{folder}/jobs.db")
    chaos.run_calmly()
    return chaos


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
def test_killed_three_times_under_load(chaos: Chaos, victim: str) -> None:
    chance = random.Random(victim)
    load = chaos.start(victim)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.5, 4))
        kill_one(VICTIMS[victim], chance)

    chaos.finish(victim, KILLS, load)
