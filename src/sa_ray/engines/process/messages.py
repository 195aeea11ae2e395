"""What the two processes tell each other, pickled. Arrays follow as descriptors of shared memory.

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
    """``loader``: ``module:function`` that returns an ``Engine``; ``arguments``: its, pickled."""

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
    """A batch to generate. The memory of its ``BatchState`` follows, then that of each source.

    ``sources``: shapes, each once. ``places``: for each request, which of them; None: none.
    """

    requests: tuple[ResolvedRequest, ...]
    sources: tuple[Shape, ...]
    places: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """Outcomes of a batch. For each shape, the memory of the samples follows."""

    outcomes: tuple[Shape | Cancelled | GenerationError, ...]
    slowdown: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """What loading, or a whole batch, has raised. ``slowdown``: of an engine that is loaded."""

    error: Exception
    slowdown: str | None = None
