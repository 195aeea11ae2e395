"""The engine port: the interface between a variant replica and the code that makes the sound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sa_ray.contracts import EngineName, ResolvedRequest
from sa_ray.errors import GenerationError
from sa_ray.scheduling.costs import Calibration

Audio = npt.NDArray[np.float32]
"""float32 ``[channels, samples]``, full scale 1."""

OnStep = Callable[[int, float], None]
"""``on_step(row, fraction)``: row ``row`` of the batch is ``fraction`` in (0, 1] done."""

IsCancelled = Callable[[int], bool]
"""``is_cancelled(row)``: True once nobody waits for this row; drop it before the next step. Between
processes it takes some milliseconds to be seen."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Result of a row that ran to its end.

    ``samples``: float32 ``[channels, samples]`` in [-1, 1], exactly
    ``round(duration * sample_rate)`` samples long. They may be flawed: ``flaw_of`` tells.
    """

    samples: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Result of a row that was dropped between steps because ``is_cancelled`` said so."""


BatchOutcome = Generated | Cancelled | GenerationError


class DeviceLostError(Exception):
    """The device answers this process with errors only: another process has to take its place.

    A CUDA context stays broken after, for instance, an illegal memory access (CUDA C++ Programming
    Guide, "Error Checking").
    """


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options for loading a model; an engine that loads none ignores them."""

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    half: bool = True
    """fp16 on CUDA, bfloat16 products on CPUs that have them; no effect elsewhere."""
    hf_token: str | None = field(default=None, repr=False)
    """Hugging Face token for gated weights; None: what ``huggingface_hub`` finds by itself."""
    repository: str | None = None
    """Hugging Face repository of the weights; None, and no ``revision`` then: the catalogue's."""
    revision: str | None = None
    """Commit of the repository; None: the catalogue's."""
    weights_dir: Path | None = None
    """Folder with one folder for each variant; None: the Hugging Face Hub and its cache."""
    lora_dir: Path | None = None
    """Folder with one folder of adapters for each variant; None: there are none."""
    gpu_fraction: float | None = None
    """Share in (0, 1] of the GPU's memory that this process may take; None: no bound."""
    cpu_threads: int | None = None
    """Threads for arithmetic on the CPU; None: as many as torch takes by itself."""
    max_batch_rows: int = 8
    """Largest batch to expect, requests; warm-up prepares for it."""


class Engine(Protocol):
    """One loaded model variant. Not thread-safe: the replica generates in one thread only."""

    @property
    def name(self) -> EngineName: ...

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""
        ...

    @property
    def sample_rate(self) -> int:
        """Hz of the audio returned."""
        ...

    @property
    def slowdown(self) -> str | None:
        """Why it is slower than it should be on this device; None: it is not. May change."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it can generate no more, so that another has to be loaded; None: nothing is known of
        such. May change, also between batches."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """Cost and bounds of batches on this device; None: those assumed for it hold."""
        ...

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        """Generate every request of ``batch`` and return one outcome for each, in order.

        ``sources``: for each request, the audio that it is made from, stereo, as long as the clip
        and at its place in it, with silence elsewhere, not to be written to; None, or no sources at
        all: the prompt alone. With ``regions`` in a request, the clip is new there and may be
        anything elsewhere, where the caller keeps the source. Without, the whole clip is new, and
        the closer to its source the lower its ``init_noise_level``. ``loop`` and ``source`` in the
        request are for the caller.

        All requests have the same ``sa_ray.scheduling.batch_rule.batch_key``; where that is another
        than of the batch before, changing adapters (``loras``) may take time. A row's audio depends
        on its own request alone, never on its batch mates. A failure of one row is that row's
        ``GenerationError``; an exception raised from here means that the whole batch failed,
        ``DeviceLostError`` that every other will fail, too.
        """
        ...

    def close(self) -> None:
        """End what it has outside of this process; from any thread. It generates no more then."""
        ...
