"""Draw what was recorded: latencies, and throughput over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from bench.loadtest.recording import Phase

mpl.use("Agg")
from matplotlib import pyplot as plt

DPI = 80


def latencies_and_throughput(phases: Mapping[str, Phase], path: Path, title: str) -> None:
    """Draw, for each phase by name, the distribution of latencies and the answers a second."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, phase in phases.items():
        good = [one for one in phase.records if one.is_good]
        _distribution(left, name, [one.latency for one in good])
        _rate(right, name, [one.ended for one in good], phase.seconds)
        if refused := [one for one in phase.records if one.is_refused]:
            _rate(right, f"{name}: refused", [one.ended for one in refused], phase.seconds)
    left.set(title="latency from the intended send time", xlabel="ms", ylabel="share", xscale="log")
    right.set(title="answers a second", xlabel="seconds", ylim=(0, None))
    for axis in (left, right):
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def scaling(gpus: Sequence[int], reached: Sequence[float], path: Path, title: str) -> None:
    """Draw clips a second by GPUs, beside so many times what one makes."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    axis.plot(gpus, [reached[0] / gpus[0] * one for one in gpus], "k--", label="in proportion")
    axis.plot(gpus, reached, "o-", label="measured")
    axis.set(xlabel="pretended GPUs", ylabel="clips a second", ylim=(0, None))
    axis.grid(visible=True, alpha=0.3)
    axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _distribution(axis: plt.Axes, name: str, latencies: list[float]) -> None:
    if latencies:
        shares = np.arange(1, len(latencies) + 1) / len(latencies)
        axis.plot(1000 * np.sort(latencies), shares, label=name)


def _rate(axis: plt.Axes, name: str, ended: list[float], seconds: float) -> None:
    if ended:
        width = max(1.0, seconds / 60)
        edges = width * np.arange(max(1, int(seconds / width)) + 1)  # whole ones
        counts, _ = np.histogram(ended, edges)
        axis.stairs(counts / width, edges, baseline=None, label=name)
