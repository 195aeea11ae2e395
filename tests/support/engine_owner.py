"""A process that has an engine in another.

``python -m tests.support.engine_owner busy``, ``idle`` or ``ending``: it writes the id of the other
once the engine is at it, and waits to be ended, or ends.
"""

import sys
import threading

import psutil

from sa_ray.engines.process import EngineProcess
from tests.support.engine_contract import wanted
from tests.support.process_engine import LOADER


def main(what: str) -> None:
    engines: list[EngineProcess] = []
    # By a thread that ends: the engine must not end with that.
    loading = threading.Thread(target=lambda: engines.append(EngineProcess(LOADER, "small-sfx")))
    loading.start()
    loading.join()
    [engine] = engines
    told = threading.Event()

    def tell(row: int, fraction: float) -> None:
        if not told.is_set():
            told.set()
            [child] = psutil.Process().children()
            print(child.pid, flush=True)

    try:
        prompt = "endless" if what == "busy" else "rain"
        engine.generate([wanted(prompt)], tell, lambda row: False)
        if what == "idle":
            threading.Event().wait()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1])
