"""What happens to whole nodes."""

import psutil
from ray._private.node import Node
from ray.cluster_utils import Cluster


def processes(node: Node) -> list[psutil.Process]:
    """All that runs on the node: of Ray, and what Ray started there."""
    found = []
    for started in node.all_processes.values():
        for info in started:
            process = psutil.Process(info.process.pid)
            found += [process, *process.children(recursive=True)]
    return found


def kill(cluster: Cluster, node: Node) -> None:
    """End everything on the node at once, as when its power goes."""
    for process in processes(node):
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def freeze(node: Node) -> None:
    """Stop everything on the node without ending it: its connections stay open, and nothing
    answers on them any more, as when its network goes."""
    for process in processes(node):
        process.suspend()
