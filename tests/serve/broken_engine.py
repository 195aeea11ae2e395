"""A variant whose engine loses its device, once, to be deployed in place of the real one."""

from pathlib import Path
from typing import Any

from sa_ray.engines import DeviceLostError
from sa_ray.serving.variant.deployment import Variant


def breaking(marker: Path) -> type[Variant]:
    """Return a variant of which the first replica that runs a batch loses its device."""

    class Breaking(Variant):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            engine: Any = self._engine
            render = engine.generate
            lost = False

            def generate(*batch: Any) -> Any:
                nonlocal lost
                if not lost and not marker.exists():
                    marker.touch()
                    lost = True
                if lost:
                    raise DeviceLostError("CUDA error: an illegal memory access was encountered")
                return render(*batch)

            engine.generate = generate

    return Breaking
