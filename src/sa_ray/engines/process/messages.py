"""What the two processes tell each other. Arrays are in the file that comes with a message.

``Load`` is answered by ``Loaded`` or ``Failed``, then each ``Batch`` by ``Made`` or ``Failed``.
"""

from dataclasses import dataclass

from sa_ray.contracts import EngineName, ResolvedRequest
from sa_ray.engines.port import Cancelled
from sa_ray.errors import GenerationError
from sa_ray.scheduling.costs import Calibration

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """``loader``: ``module:function`` that returns an ``Engine``; ``arguments``: its, pickled.

    The file is that of the ``BatchState``.
    """

    loader: str
    arguments: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """What holds of the engine from now on; its slowdown may change."""

    name: EngineName
    device: str
    sample_rate: int
    calibration: Calibration | None
    slowdown: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch to generate.

    ``sources``: shapes of those in the file, each once. ``places``: for each request, which of them
    is its; None: none. ``slot``: where to put the samples; ``dropped``: slots that are no more.
    """

    requests: tuple[ResolvedRequest, ...]
    sources: tuple[Shape, ...]
    places: tuple[int | None, ...]
    slot: int
    dropped: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """Outcomes of a batch; of clips their shapes. The file is that of the slot, if it is new."""

    outcomes: tuple[Shape | Cancelled | GenerationError, ...]
    slowdown: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """What loading, or a whole batch, has raised. ``slowdown``: of an engine that is loaded."""

    error: Exception
    slowdown: str | None = None
