"""The end of a parent, as the kernel tells of it."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal for this process when its parent ends."""


def signal_at_parents_end(number: signal.Signals) -> None:
    """Have this process sent ``number`` as soon as the thread ends that started it, also if it
    becomes another program. Only Linux can; elsewhere nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
