"""Serve a configuration on a private Ray: ``python -m sa_ray.local CONFIG``.

``sa_ray.local.private_ray`` prepares the environment for it.
"""

import os
import sys

import ray
from ray.serve import scripts

from sa_ray.local.private_ray import PRIVATE_UMASK


def main(config: str) -> None:
    """Start a Ray of its own and do as ``serve run CONFIG`` does, until interrupted."""
    os.umask(PRIVATE_UMASK)
    # Never one that Ray finds: anyone may write the file that names it.
    ray.init(address="local", namespace="serve", include_dashboard=False)
    scripts.cli(["run", config])


if __name__ == "__main__":
    main(sys.argv[1])
