"""Garbage in processes that look for it seldom."""

import subprocess
import sys

LEAVING_CYCLES = """
import gc, weakref
from sa_ray.serving import garbage

class Cycle:
    def __init__(self):
        self.itself = self

left = weakref.ref(Cycle())
garbage.settle()
assert left() is None, "what was garbage by then was kept for good"
waiting = weakref.ref(Cycle())
for _ in range(10_000_000):
    if waiting() is None:
        break
    Cycle()
else:
    raise AssertionError("what has become garbage since is never found")
"""


def test_cycles_are_found_before_and_after_what_is_there_is_left_out() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVING_CYCLES], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
