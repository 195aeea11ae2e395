"""Send a request again that a replica has turned away, to be routed with what that has said."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sa_ray.contracts import ResolvedRequest
from sa_ray.errors import InfrastructureError
from sa_ray.serving.messages import BusyReplica

T = TypeVar("T")


async def rerouted(
    request: ResolvedRequest,
    replicas: int,
    send: Callable[[ResolvedRequest], Awaitable[T | BusyReplica]],
    send_again: Callable[[ResolvedRequest, float], Awaitable[T | BusyReplica]],
) -> T:
    """Return the answer of the replica that does not turn ``request`` away.

    It may be turned away once if there are several ``replicas``. ``send_again`` is then called with
    the Unix time until which that one is busy. Raises what they raise, and ``InfrastructureError``
    if a replica turns away what another had turned away.
    """
    answer = await send(request.offered({}) if replicas > 1 else request)
    if isinstance(answer, BusyReplica):
        busy = {answer.replica: answer.until}
        answer = await send_again(request.offered(busy), answer.until)
    if isinstance(answer, BusyReplica):
        raise InfrastructureError("A replica turned away what another had turned away.")
    return answer
