"""Draws pictures of the docs: the path of a request, and clips of the procedural engine.

uv run python -m bench.pictures [FOLDER] [--format svg]
"""

import argparse
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

from sa_ray.contracts import SAMPLE_RATE, ResolvedRequest
from sa_ray.engines.port import Generated
from sa_ray.engines.procedural import ProceduralEngine

PICTURES: Final = Path(__file__).parents[1] / "docs" / "pictures"

# Mid-tones, and white on dark boxes: the background may be white or black.
TEXT: Final = "#75808c"
LINE: Final = "#8590a0"
EDGE: Final = "#8ea2bd"
SERVE: Final = "#2b5a8c"
ACTOR: Final = "#6a4a8f"
OUTSIDE: Final = "#4a5563"

CLIPS: Final = {
    "rain on a tin roof": "#3b8fd0",
    "a church bell": "#c9822b",
    "drum loop at 120 BPM": "#8d6fd1",
}
CLIP_S: Final = 5.0
COLUMNS: Final = 340
"""Vertical strokes of a waveform, each from the least to the greatest sample in it."""


class Box(NamedTuple):
    """A part of the service; ``x`` and ``y`` are its centre, in tenths of an inch."""

    x: float
    y: float
    title: str
    text: str
    colour: str
    width: float = 15.0
    height: float = 6.6


BOXES: Final = (
    Box(8.5, 36, "client", "HTTP", OUTSIDE, width=11),
    Box(31, 36, "ingress", "FastAPI, holds no state", SERVE),
    Box(84, 40.4, "small-sfx", "", SERVE, width=13, height=3.6),
    Box(84, 36, "small-music", "", SERVE, width=13, height=3.6),
    Box(84, 31.6, "medium", "", SERVE, width=13, height=3.6),
    Box(31, 20, "job actor", "detached", ACTOR),
    Box(57.5, 20, "dispatcher", "leases, reports, calls", SERVE),
    Box(84, 20, "uploader", "detached", ACTOR),
    Box(31, 5, "job store", "SQLite, PostgreSQL, Redis", OUTSIDE),
    Box(84, 5, "object store", "folder, S3, R2, MinIO", OUTSIDE),
)

VARIANTS: Final = Box(84, 36, "", "", "none", width=15, height=14.6)
"""The frame around the models: whichever is asked for."""


class Arrow(NamedTuple):
    """A line through ``points`` with a head at its end, and ``text`` centred at ``at``."""

    points: tuple[tuple[float, float], ...]
    text: str
    at: tuple[float, float]
    both_ways: bool = False
    dashed: bool = False


ARROWS: Final = (
    Arrow(((14, 37.2), (23.5, 37.2)), "request", (18.75, 38.6)),
    Arrow(((23.5, 34.8), (14, 34.8)), "audio, or 202", (18.75, 33.2)),
    Arrow(((38.5, 37), (76.5, 37)), "a client that waits: generate, answer", (57, 38.4), True),
    Arrow(((31, 32.7), (31, 23.3)), "submit, read,\ncancel", (36.4, 28), True),
    Arrow(((38.5, 20), (50, 20)), "lease,\nrenew, end", (44.3, 22.7), True),
    Arrow(((57.5, 23.3), (57.5, 32), (76.5, 32)), "a job: generate", (67, 33.4)),
    Arrow(((84, 28.7), (84, 23.3)), "audio", (87.3, 26)),
    Arrow(((65, 20), (76.5, 20)), "reference", (70.5, 21.4)),
    Arrow(((31, 16.7), (31, 8.3)), "durable before\nany answer", (37.2, 12.5)),
    Arrow(((84, 16.7), (84, 8.3)), "put, verify", (88.5, 12.5)),
    Arrow(
        ((76.5, 5), (57.5, 5), (57.5, 0.3), (8.5, 0.3), (8.5, 32.7)),
        "download: a URL of the store,\nor through the ingress",
        (65.8, 8),
        dashed=True,
    ),
)


def draw_path() -> Any:
    """The way of a request, synchronous and as a job, from the client to the stored audio."""
    figure = plt.figure(figsize=(9.4, 4.5))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 94), ylim=(-1, 44), aspect="equal")
    axes.axis("off")
    for arrow in ARROWS:
        _draw_arrow(axes, arrow)
    for box in (VARIANTS, *BOXES):
        _draw_box(axes, box)
    return figure


def _draw_arrow(axes: Any, arrow: Arrow) -> None:
    style = {"color": LINE, "linewidth": 1.5, "linestyle": "--" if arrow.dashed else "-"}
    *way, last = arrow.points
    axes.plot(*zip(*way, strict=True), solid_joinstyle="miter", **style)
    heads = "<|-|>" if arrow.both_ways else "-|>"
    style |= {"arrowstyle": heads, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    axes.annotate("", last, way[-1], arrowprops=style)
    axes.text(*arrow.at, arrow.text, color=TEXT, fontsize=8.5, ha="center", va="center")


def _draw_box(axes: Any, box: Box) -> None:
    corner = box.x - box.width / 2, box.y - box.height / 2
    rounded = "round,pad=0,rounding_size=0.9"
    axes.add_patch(
        FancyBboxPatch(
            corner, box.width, box.height, rounded, facecolor=box.colour, edgecolor=EDGE, zorder=3
        )
    )
    style = {"color": "white", "ha": "center", "va": "center", "zorder": 4}
    lift = 1.2 if box.text else 0.0
    axes.text(box.x, box.y + lift, box.title, fontsize=11, fontweight="bold", **style)
    axes.text(box.x, box.y - 1.5, box.text, fontsize=7.5, **style)


def draw_waveforms() -> Any:
    """Clips of three prompts, one above the other, over the same seconds."""
    figure, rows = plt.subplots(len(CLIPS), sharex=True, figsize=(9.4, 3.3))
    figure.subplots_adjust(left=0.02, right=0.98, top=0.97, bottom=0.12, hspace=0.12)
    middles = (np.arange(COLUMNS) + 0.5) * CLIP_S / COLUMNS
    for axes, (prompt, colour) in zip(rows, CLIPS.items(), strict=True):
        low, high = _extremes(render(prompt))
        axes.fill_between(middles, low, high, color=colour, linewidth=0.4)
        axes.set(xlim=(0, CLIP_S), ylim=(-1, 1.5), yticks=[])
        axes.text(0, 1.02, f'"{prompt}"', color=TEXT, fontsize=10, fontweight="bold")
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=TEXT, length=0, labelsize=9)
    rows[-1].xaxis.set_major_formatter("{x:g} s")
    return figure


def render(prompt: str) -> np.ndarray:
    """The mono mix of a clip of the procedural engine."""
    request = ResolvedRequest(model="small-sfx", prompt=prompt, duration=CLIP_S, seed=1)
    engine = ProceduralEngine(request.model)
    (outcome,) = engine.generate([request], lambda row, fraction: None, lambda row: False)
    if not isinstance(outcome, Generated):
        raise TypeError(outcome)
    mix: np.ndarray = outcome.samples.mean(axis=0)
    return mix


def _extremes(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest sample of each column, coarse enough to be the same on every machine."""
    whole = round(CLIP_S * SAMPLE_RATE) // COLUMNS * COLUMNS
    columns = samples[:whole].reshape(COLUMNS, -1)
    return columns.min(axis=1).round(2), columns.max(axis=1).round(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=PICTURES)
    parser.add_argument("--format", default="svg", choices=["svg", "png"])
    options = parser.parse_args()
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "sa-ray"
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, draw in {"path": draw_path, "waveform": draw_waveforms}.items():
        file = options.folder / f"{name}.{options.format}"
        metadata = {"Date": None, "Creator": None} if options.format == "svg" else None
        draw().savefig(file, transparent=True, dpi=150, metadata=metadata)
        print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
