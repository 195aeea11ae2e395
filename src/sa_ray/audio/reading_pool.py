"""Have clients' files read by processes that may crash, a few at once."""

import json
import logging
import os
import queue
import socket
import subprocess
import sys
from typing import IO, Any, Final

from sa_ray.contracts import ReadAudio
from sa_ray.errors import InvalidRequestError

logger = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 2
"""Files that are read at once, each by a process with one thread."""

READ_TIMEOUT_S: Final = 60.0
"""Reading 380 s of audio takes some 5 s."""

_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
"""Variables of the environment that the processes get: none that may be a secret."""


class ReadingPool:
    """Reads files by ``MAX_AT_ONCE`` processes, started when first needed. Thread-safe."""

    def __init__(self, *, timeout_s: float = READ_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(MAX_AT_ONCE):
            self._idle.put(None)

    def read(self, source: IO[bytes], target: IO[bytes], max_seconds: float) -> ReadAudio:
        """Check the audio in ``source`` and write what is stored of it to ``target``.

        Blocks, also until a process is free. Raises ``InvalidRequestError`` (param ``audio``) as
        ``reading.convert`` does, and for a file that crashes the process or keeps it for too long.
        """
        worker = self._idle.get()
        try:
            if worker is None or worker.has_ended():
                worker = _Worker(self._timeout_s)
            told = worker.ask(source.fileno(), target.fileno(), max_seconds)
        except (OSError, EOFError, ValueError) as error:
            logger.warning("a process that read an upload was lost: %r", error)
            if worker:
                logger.warning("it ended with %s", worker.kill())
            worker = None
            told = {"refusal": "The file could not be read. Export it again, as WAV or FLAC."}
        finally:
            self._idle.put(worker)
        if "refusal" in told:
            raise InvalidRequestError(told["refusal"], param="audio")
        return ReadAudio.model_validate(told)

    def close(self) -> None:
        """End the processes that are idle."""
        for _ in range(MAX_AT_ONCE):
            if worker := self._idle.get():
                worker.kill()
            self._idle.put(None)


class _Worker:
    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(timeout_s)
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this module's own
                [sys.executable, "-P", "-m", "sa_ray.audio.reading_worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Libraries say there what is wrong with clients' files.
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={
                    **kept,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )

    def ask(self, source: int, target: int, max_seconds: float) -> dict[str, Any]:
        """Raises ``OSError`` or ``EOFError`` if the process ends or does not answer in time."""
        request = {"max_seconds": max_seconds, "limit_s": self._timeout_s}
        socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], [source, target])
        line = b""
        while not line.endswith(b"\n"):
            if not (part := self._connection.recv(1 << 16)):
                raise EOFError(f"process {self._process.pid} has ended")
            line += part
        told: dict[str, Any] = json.loads(line)
        return told

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> int:
        """End the process; return its code, or the negative of the signal that ended it."""
        self._connection.close()
        self._process.kill()
        return self._process.wait()
