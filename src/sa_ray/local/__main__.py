"""Serve a configuration on a private Ray: ``python -m sa_ray.local CONFIG PARENT``.

``sa_ray.local.server`` prepares the environment for it.
"""

import logging
import os
import signal
import sys
import threading
from types import FrameType

import ray
from ray._private.worker import global_worker
from ray.serve import scripts

from sa_ray.local.private_ray import PRIVATE_UMASK
from sa_ray.parents_end import end_with_parent
from sa_ray.telemetry import configure_logging

logger = logging.getLogger("sa_ray.local")

VITAL = ("gcs_server", "raylet")
"""Processes of Ray without which nothing is served. The raylet ends with either of its agents."""

RAY_ENDED = 70
"""Exit code after the end of one of them."""

POLL_S = 0.5


def main(config: str, parent: int) -> None:
    """Start a Ray of its own and do as ``serve run CONFIG`` does, until interrupted, or until
    process ``parent`` or a vital process of Ray ends."""
    end_with_parent(parent)
    os.umask(PRIVATE_UMASK)
    configure_logging()
    # Which a shell has commands in the background ignore.
    signal.signal(signal.SIGINT, _interrupt)
    stopping = threading.Event()
    try:
        # Never one that Ray finds: anyone may write the file that names it.
        ray.init(address="local", namespace="serve", include_dashboard=False)
        # After Ray, which ends the process at once at SIGTERM.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        threading.Thread(target=_end_with_ray, args=(stopping,), daemon=True).start()
        scripts.cli(["run", config])
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        stopping.set()


def _end_with_ray(stopping: threading.Event) -> None:
    """End this process when Ray is broken: by itself it would stay, and serve nothing."""
    node = global_worker.node
    while node and not stopping.wait(POLL_S):
        for kind, process in node.dead_processes():
            if kind in VITAL and not stopping.is_set():
                logger.error("Ray's %s has ended (%s)", kind, process.returncode)
                # Not in order: that would wait for what is dead.
                os._exit(RAY_ENDED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop as at Ctrl-C: Serve first, then Ray."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
