"""What happens to whole nodes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from ray._private.node import Node
from ray.cluster_utils import Cluster


def processes(node: Node) -> list[psutil.Process]:
    """All that runs on the node: of Ray, and what Ray started there."""
    found = []
    for started in node.all_processes.values():
        for info in started:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile, here and below
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
    return found


def kill(cluster: Cluster, node: Node) -> None:
    """End everything on the node at once, as when its power goes."""
    for process in processes(node):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(node, allow_graceful=False)


@contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Everything on the node is stopped without having ended: its connections stay open, and
    nothing answers on them any more, as when its network goes. It ends with the block."""
    stopped = processes(node)
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.kill()
