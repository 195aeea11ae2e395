"""A wall clock that a test can step: for processes with this folder in their ``PYTHONPATH``.

Python imports this module by its name as it starts. The seconds to add lie in the file that
``SA_RAY_TEST_CLOCK`` names, as a double.
"""

import mmap
import os
import struct
import time

if "SA_RAY_TEST_CLOCK" in os.environ:
    with open(os.environ["SA_RAY_TEST_CLOCK"], "rb") as _file:  # noqa: PTH123 - starts sooner
        _step = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
    _time = time.time
    time.time = lambda: _time() + struct.unpack("d", _step[:8])[0]
