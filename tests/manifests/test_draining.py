"""What ``drain-node`` asks of the cluster, by a clock of its own."""

import math
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ray.core.generated import gcs_pb2

from tests.manifests.agreement import ROOT

LIMIT_S = 300.0
HEAD, OWN, OTHER = b"\1", b"\2", b"\3"


class Cluster:
    """A head and the worker that is drained, on which a proxy and a replica never end.

    ``joins``: when another worker does. ``silent``: from when to when nodes are not told.
    """

    def __init__(self, joins: float = math.inf, silent: tuple[float, float] = (0, 0)) -> None:
        self.now = 0.0
        self.until: list[float] = []
        """By when the node was to be drained, each time that it was asked for."""
        self._joins = joins
        self._silent = silent

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drain_node(self, *asked: Any, timeout: float) -> tuple[bool, str]:
        self.until.append(asked[-1] / 1000)
        return True, ""

    def get_all_node_info(self, timeout: float) -> dict[bytes, Any]:
        start, end = self._silent
        if start <= self.now < end:
            raise TimeoutError
        ids = [HEAD, OWN, *([OTHER] if self.now >= self._joins else [])]
        alive = gcs_pb2.GcsNodeInfo.ALIVE
        return {one: SimpleNamespace(state=alive, is_head_node=one == HEAD) for one in ids}

    def get_draining_nodes(self, timeout: float) -> dict[str, int]:
        return {OWN.hex(): 0}


class Script:
    """``drain-node``, in a cluster."""

    def __init__(self, script: ModuleType) -> None:
        self._script: Any = script

    def drain(self, cluster: Cluster) -> list[float]:
        self._script.GcsClient = lambda address: cluster
        now = lambda: cluster.now  # noqa: E731
        self._script.time = SimpleNamespace(monotonic=now, time=now, sleep=cluster.sleep)
        self._script.processes = lambda: [[b"ray::HAProxyManager"], [b"ray::ServeReplica:medium"]]
        self._script.drain("head:6379", OWN.hex(), LIMIT_S)
        return cluster.until


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # It ends at once when it has no time.
    monkeypatch.setattr(sys, "argv", ["drain-node", "0"])
    loader = SourceFileLoader("drain_node", str(ROOT / "cluster" / "image" / "drain-node"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    loaded = module_from_spec(spec)
    loader.exec_module(loaded)
    return Script(loaded)


def test_replicas_that_nothing_can_take_over_from_are_told_to_go_after_the_proxy(
    script: Script,
) -> None:
    until = script.drain(Cluster())

    assert until[0] == LIMIT_S
    assert 45 <= until[-1] <= 55


def test_replicas_keep_their_time_if_a_worker_joins_meanwhile(script: Script) -> None:
    until = script.drain(Cluster(joins=20))

    assert set(until) == {LIMIT_S}


def test_a_head_that_does_not_say_who_is_there_changes_nothing(script: Script) -> None:
    until = script.drain(Cluster(silent=(10, 40)))

    assert 45 <= until[-1] <= 55
