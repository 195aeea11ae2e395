"""Have Python look for garbage seldom, in processes that answer many small calls."""

import gc
from typing import Final

THRESHOLDS: Final = (2_000, 20, 20)
"""Those of Python up to 3.12 are (700, 10, 10)."""


def settle() -> None:
    """Leave out what is there by now, and look less often; to be called once a process is set up.

    What is imported, some hundred thousand objects, stays for as long as the process. Looking
    through it again and again took a third of the time of a status read. Garbage of later on is
    found as ever, if it has cycles: all else goes at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
