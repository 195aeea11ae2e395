"""Load a service, in a closed or an open loop, or run the scenarios of `bench/results/serving.md`.

    uv run python -m bench.load scenarios [names] [--seconds 10] [--output bench/results/serving]
    uv run python -m bench.load closed --start zero --clients 8 --mix sync
    uv run python -m bench.load open --start gpu --arrivals poisson --rate 20 --mix mixed
    uv run python -m bench.load open --url http://127.0.0.1:8000 --arrivals trace.jsonl

``--start``: a service of its own, around an engine that costs nothing (``zero``), or one that
sleeps like an H100 (``gpu``, with ``--gpus`` of them; ``calls``: in many short calls, with
``calls-apart`` in a process of its own); ``old-zero``, ``old-gpu`` and ``old-eager``
are the server that the service replaced (`bench/baseline.py`). Otherwise ``--url`` is loaded, and
``--pid`` names the process whose CPU time, and that of its descendants, is measured. The key of a
service that has keys comes from ``STABLE_AUDIO_API_KEY``.
"""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.loadtest import arrivals, plots, report
from bench.loadtest.arrivals import Arrivals
from bench.loadtest.loops import Target, closed, open_loop
from bench.loadtest.mixes import MIXES, Mix, named
from bench.loadtest.recording import Phase
from bench.loadtest.scenarios import chosen
from bench.loadtest.services import BUILDERS, ENGINES, is_simulated, old_server, service
from bench.loadtest.stage import run
from bench.simulation.traces import TRACES

OLD = "old-"
OF_OLD = ("zero", "gpu", "eager")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, and so stops the service
    options = _options()
    command = shlex.join(["python", "-m", "bench.load", *sys.argv[1:]])
    try:
        if options.loop == "scenarios":
            _run_scenarios(options, command)
        else:
            _run_loop(options, command)
    except ValueError as error:
        sys.exit(str(error))


def _run_scenarios(options: argparse.Namespace, command: str) -> None:
    done = []
    for scenario in run(chosen(options.names, options.seconds)):
        print(f"\n{report.table([scenario])}\n\n{report.phases([scenario])}", flush=True)
        done.append(scenario)
    if options.output:
        report.write(done, options.output, command)


def _run_loop(options: argparse.Namespace, command: str) -> None:
    mix = Mix(named(options.mix), options.seed)
    with _target(options) as target:
        if options.loop == "closed":
            phase = closed(target, mix, clients=options.clients, seconds=options.seconds)
        else:
            phase = open_loop(target, mix, _arrivals(options))
    engine = (options.start or "").removeprefix(OLD)
    told = {
        **report.surroundings(command),
        "engine": ENGINES.get(engine, "that of the service at --url"),
        "simulated": is_simulated(engine),
        **phase.summary(),
    }
    print(json.dumps(told, indent=1))
    if options.output:
        _write(options.output, told, phase, simulated=is_simulated(engine))


def _write(stem: Path, told: dict[str, object], phase: Phase, *, simulated: bool) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    title = str(told["command"]) + (" (simulated GPU)" if simulated else "")
    plots.latencies_and_throughput({"all": phase}, stem.with_suffix(".png"), title)
    report.into(
        stem.with_suffix(".md"),
        f"`{told['command']}`, {told['date']}, commit {told['commit']}, {told['machine']}; "
        f"{told['engine']}.\n\n{report.PHASE_HEAD}\n{report.PHASE_LINE}\n"
        f"| {report.phase_line(phase)} |\n\n![load]({stem.name}.png)",
    )


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    if options.start is None:
        address = urlsplit(options.url)
        if address.scheme != "http":
            raise SystemExit(f"{options.url}: only http:// is loaded.")
        yield Target(address.port or 80, address.hostname or "127.0.0.1", options.pid)
    elif options.start.startswith(OLD):
        with old_server(options.start.removeprefix(OLD)) as port:
            yield Target(port)
    else:
        models = {str(kind.fields.get("model", "small-sfx")) for kind in named(options.mix)}
        replicas = dict.fromkeys(sorted(models), options.gpus)
        with service(options.start, replicas) as running:
            yield Target(running.port)


def _arrivals(options: argparse.Namespace) -> Arrivals:
    what, rate, seconds, seed = options.arrivals, options.rate, options.seconds, options.seed
    if what == "poisson":
        return arrivals.poisson(rate, seconds, seed)
    if what == "bursts":
        return arrivals.bursts(rate, seconds, seed)
    if what in TRACES:
        return arrivals.trace(what, rate, seconds, seed)
    return arrivals.from_file(Path(what))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    loops = parser.add_subparsers(dest="loop", required=True)
    scenarios = loops.add_parser("scenarios", help="fill in the table of goals")
    scenarios.add_argument("names", nargs="*", help="scenarios, or beginnings of theirs; all")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--url", default="http://127.0.0.1:8000")
    shared.add_argument("--pid", type=int, help="process that started the service at --url")
    shared.add_argument("--start", choices=(*BUILDERS, *(OLD + one for one in OF_OLD)))
    shared.add_argument("--gpus", type=int, default=1, help="replicas of each model, 1 to 32")
    shared.add_argument("--mix", default="sync", help=f"{', '.join(MIXES)}, or a JSON file")
    shared.add_argument("--seed", type=int, default=0)
    closed_loop = loops.add_parser("closed", parents=[shared], help="clients that wait for answers")
    closed_loop.add_argument("--clients", type=int, default=8)
    opened = loops.add_parser("open", parents=[shared], help="requests at their times")
    opened.add_argument(
        "--rate", type=float, default=10.0, help="a second: mean, of traces highest"
    )
    opened.add_argument(
        "--arrivals",
        default="poisson",
        help=f"poisson, bursts, {', '.join(TRACES)}, or a file of JSON lines with `at` and "
        "`duration`, seconds",
    )
    for one in (scenarios, closed_loop, opened):
        one.add_argument("--seconds", type=float, default=10.0, help="of a phase")
        one.add_argument("--output", type=Path, help="path without suffix for JSON, Markdown, PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
