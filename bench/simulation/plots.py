"""Draw the pictures in ``bench/results``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from bench.simulation.replay import Outcome

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"requests": "tab:orange", "backlog": "tab:blue"}


def replicas_over_time(traces: Mapping[str, Mapping[str, Outcome]], path: Path) -> None:
    """Draw replicas over time, by trace and policy."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 5.5), layout="constrained")
    for axis, (name, outcomes) in zip(axes.flat, traces.items(), strict=True):
        for policy, outcome in outcomes.items():
            hours = np.array(outcome.times) / 3600
            axis.plot(hours, outcome.replicas, label=policy, color=COLOURS[policy], lw=1)
        axis.set(title=name, xlabel="hours", ylabel="replicas", ylim=(0, None))
    axes.flat[0].legend()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def ratios(traces: Mapping[str, Sequence[tuple[str, float, float]]], path: Path) -> None:
    """Draw the backlog policy over request counts: replica hours, and p95 of waits."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
    for column, (axis, title) in enumerate(
        zip(axes, ("replica hours", "p95 of waits (1 s at least)"), strict=True)
    ):
        for offset, (name, rows) in enumerate(traces.items()):
            places = np.arange(len(rows)) + (offset - 1.5) / 5
            axis.barh(
                places, [row[1 + column] - 1 for row in rows], height=0.18, left=1, label=name
            )
        axis.axvline(1, color="black", lw=1)
        axis.set(title=f"backlog / requests: {title}")
        axis.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=80)
    plt.close(figure)
