"""Write results: JSON, a Markdown table between markers, and pictures."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.loadtest import plots
from bench.loadtest.pretended_gpus import Scaling
from bench.loadtest.recording import Phase
from bench.loadtest.stage import Scenario

BEGIN = "<!-- written by bench.load: begin -->"
END = "<!-- written by bench.load: end -->"
SHOWN_CPU_MS = 0.05
SWITCHES = ("RAY_SERVE_", "STABLE_AUDIO_")
"""Beginnings of variables that results name, if they are set; secrets have other names."""
PHASE_HEAD = "| good a second | p50, p95, p99 ms | refused | failed | CPU ms | of which |"
PHASE_LINE = "| --- | --- | --- | --- | --- | --- |"
SHARED = (
    "Clients, servers and all of Ray share the CPUs. What says *simulated* slept like a GPU, and "
    "none was there."
)
LATENCIES = (
    "Latencies count from when a request should have been sent. CPU is that of all processes but "
    "the client, by request."
)
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "URL")


def surroundings(command: str) -> dict[str, Any]:
    """Return what figures depend on: machine, day, command, commit and switches."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": command,
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "machine": f"{processor()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "switches": {
            name: text
            for name, text in sorted(os.environ.items())
            if name.startswith(SWITCHES) and not any(one in name for one in SECRET)
        },
    }


def processor() -> str:
    """Return the maker and kind of the CPU, as far as it is told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def write(scenarios: Sequence[Scenario], stem: Path, command: str) -> None:
    """Write ``<stem>.json``, the generated part of ``<stem>.md``, and ``<stem>-*.png``."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    around = surroundings(command)
    whole = {**around, "scenarios": {one.name: one.summary() for one in scenarios}}
    stem.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")
    pictures = draw(scenarios, stem)
    into(stem.with_suffix(".md"), markdown(scenarios, around, pictures))


def into(path: Path, text: str) -> None:
    """Put ``text`` between the markers in ``path``, at its end if it has none."""
    old = path.read_text() if path.exists() else "# Serving under load\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{text.strip()}\n\n{END}\n{after}")


def draw(scenarios: Sequence[Scenario], stem: Path) -> list[str]:
    """Draw the pictures and return their names."""
    names = []
    for one in scenarios:
        if isinstance(one, Scaling):
            continue
        name = f"{stem.name}-{one.name}.png"
        title = one.name + (" (simulated GPU)" if one.simulated else "")
        plots.latencies_and_throughput(one.phases, stem.with_name(name), title)
        names.append(name)
    scaling = [one for one in scenarios if isinstance(one, Scaling)]
    if len(scaling) > 1:
        name = f"{stem.name}-scaling.png"
        gpus, rates = [one.gpus for one in scaling], [one.rate for one in scaling]
        plots.scaling(gpus, rates, stem.with_name(name), "scaling (simulated GPUs)")
        names.append(name)
    return names


def markdown(scenarios: Sequence[Scenario], around: dict[str, Any], pictures: Sequence[str]) -> str:
    """Return the generated part of the page."""
    switches = ", ".join(f"`{name}={text}`" for name, text in around["switches"].items())
    proxies = " and ".join(dict.fromkeys(one.proxy for one in scenarios))
    told = (
        f"`{around['command']}`, {around['date']}, commit {around['commit']}, "
        f"{around['machine']}, Python {around['python']}; through {proxies}"
        f"{f'; {switches}' if switches else ''}. {SHARED}"
    )
    lines = [
        told,
        "",
        table(scenarios),
        "",
        "## Phases",
        "",
        LATENCIES,
        "",
        phases(scenarios),
        *(f"\n![{name}]({name})" for name in pictures),
    ]
    return "\n".join(lines)


def table(scenarios: Sequence[Scenario]) -> str:
    """Return the table of goals."""
    lines = ["| what | service | old server | goal | met |", "| --- | --- | --- | --- | --- |"]
    for row in (row for one in scenarios for row in one.rows()):
        met = {True: "yes", False: "no", None: ""}[row.met]
        lines.append(f"| {row.what} | {row.service} | {row.old_server} | {row.goal} | {met} |")
    return "\n".join(lines)


def phases(scenarios: Sequence[Scenario]) -> str:
    """Return a line for each phase."""
    lines = [f"| scenario | phase {PHASE_HEAD}", f"| --- | --- {PHASE_LINE}"]
    for one in scenarios:
        name = f"{one.name} (simulated GPU)" if one.simulated else one.name
        lines += [f"| {name} | {at} | {phase_line(phase)} |" for at, phase in one.phases.items()]
    return "\n".join(lines)


def phase_line(phase: Phase) -> str:
    """Return the figures of ``phase`` as cells."""
    told = phase.summary()
    latencies = ", ".join(f"{told['latency_ms'].get(one, 0):.1f}" for one in ("p50", "p95", "p99"))
    parts = ", ".join(
        f"{part} {spent:.2f}"
        for part, spent in told["cpu_ms"].items()
        if spent >= SHOWN_CPU_MS and part != "client"
    )
    return (
        f"{told['good_per_second']:.1f} | {latencies} | {told['refused']} | {told['failed']} | "
        f"{told['cpu_ms_served']:.2f} | {parts}"
    )


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
