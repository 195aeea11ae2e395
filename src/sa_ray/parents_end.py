"""The end of a parent, as the kernel tells of it."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal for this process when its parent ends."""


def signal_at_parents_end(number: signal.Signals) -> None:
    """Have this process sent ``number`` as soon as the thread ends that started it, also if it
    becomes another program. Only Linux can; elsewhere nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_with_parent(parent: int) -> None:
    """Have this process killed as soon as process ``parent`` ends, even if that is killed.

    More exactly, as soon as the thread ends that started this process. Only Linux can; elsewhere
    the parent has to end in order.
    """
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent:  # which had ended before that
        sys.exit(1)
