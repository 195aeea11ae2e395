"""The cluster of `KUBECONFIG`, and the table of what was measured there."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.kubernetes.kube import Kube, KubectlError

FIGURES: list[tuple[str, str, str]] = []


class Figures:
    """What the table at the end of the run shows."""

    @staticmethod
    def note(scenario: str, seconds: float | None, outcome: str) -> None:
        """``outcome``: what was lost, in words."""
        FIGURES.append((scenario, "" if seconds is None else f"{seconds:.0f} s", outcome))
        print(*FIGURES[-1], sep=" | ", flush=True)

    @contextmanager
    def timed(self, scenario: str, outcome: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.note(scenario, time.monotonic() - begun, outcome)


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture(scope="session")
def kube() -> Kube:
    if not os.environ.get("KUBECONFIG") or not shutil.which("kubectl"):
        pytest.skip("KUBECONFIG or kubectl is missing: NOTHING WAS RUN on Kubernetes")
    kube = Kube()
    try:
        kube.run("get", "crd", "rayservices.ray.io")
    except KubectlError as error:
        pytest.skip(f"no cluster with KubeRay, NOTHING WAS RUN on Kubernetes: {error}")
    return kube


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("on Kubernetes")
        for row in FIGURES:
            terminalreporter.write_line("| " + " | ".join(row) + " |")
