"""A variant whose engine breaks when it is told to, to be deployed in place of the real one."""

from pathlib import Path
from typing import Any

from sa_ray.engines import DeviceLostError
from sa_ray.serving.variant.deployment import Variant


def breaking(marker: Path) -> type[Variant]:
    """Return a variant of which the next replica to run a batch breaks once ``marker`` is gone.

    That replica makes the marker again, and fails every batch from then on: as one that has lost
    its device if the marker's folder has a file ``device``, as one with a bug otherwise.
    """

    class Breaking(Variant):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            engine: Any = self._engine
            render = engine.generate
            fault: Exception | None = None

            def generate(*batch: Any) -> Any:
                nonlocal fault
                if fault is None and not marker.exists():
                    marker.touch()
                    fault = RuntimeError("a bug that lasts")
                    if (marker.parent / "device").exists():
                        fault = DeviceLostError("CUDA error: an illegal memory access")
                if fault is not None:
                    raise fault
                return render(*batch)

            engine.generate = generate

    return Breaking
