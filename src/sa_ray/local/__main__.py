"""Serve a configuration on a private Ray: ``python -m sa_ray.local CONFIG``.

``sa_ray.local.private_ray`` prepares the environment for it.
"""

import os
import signal
import sys
from types import FrameType

import ray
from ray.serve import scripts

from sa_ray.local.private_ray import PRIVATE_UMASK


def main(config: str) -> None:
    """Start a Ray of its own and do as ``serve run CONFIG`` does, until interrupted."""
    os.umask(PRIVATE_UMASK)
    # Never one that Ray finds: anyone may write the file that names it.
    ray.init(address="local", namespace="serve", include_dashboard=False)
    # After Ray, which ends the process at once at SIGTERM.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    scripts.cli(["run", config])


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop as at Ctrl-C: Serve first, then Ray."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(sys.argv[1])
