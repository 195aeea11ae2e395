"""``EngineProcess``: the replica's side, which asks and waits."""

import os
import pickle
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Final

from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.engines.port import (
    Audio,
    BatchOutcome,
    DeviceLostError,
    Generated,
    IsCancelled,
    OnStep,
)
from sa_ray.engines.process.batch_state import BatchState
from sa_ray.engines.process.channel import Channel
from sa_ray.engines.process.child import ChildProcess
from sa_ray.engines.process.messages import Batch, Failed, Load, Loaded, Made
from sa_ray.engines.process.sample_slots import ReadSlots
from sa_ray.engines.process.shared_memory import fill, mapped, nameless, size_of
from sa_ray.errors import UnavailableError
from sa_ray.scheduling.costs import Calibration

RENEWAL_S: Final = 0.02
"""Between two looks at the progress of a batch, and at who has cancelled."""

END_TIMEOUT_S: Final = 5.0
"""Longest wait for the end of a process whose connection has ended."""


class EngineProcess:
    """An engine in a child process; implements ``Engine``.

    A GPU idles while another thread of its engine's process holds the interpreter lock, and a
    replica has many that do: Ray's, Serve's, and the encoders'.

    Samples and sources are in memory that both processes share. If the process is lost, a batch in
    it raises ``DeviceLostError``, and so does every later one. It ends with this process, however
    that ends, with ``close``, and with this object.
    """

    def __init__(self, loader: str, variant: VariantName, *arguments: Any) -> None:
        """Start the process, and load ``variant`` in it.

        ``loader``: ``module:function`` that takes ``variant`` and ``arguments``, which are pickled,
        and returns an ``Engine``. What it raises is raised here: errors of this project and of
        Python as they are, others as a ``RuntimeError``. Raises ``UnavailableError`` if the process
        ends meanwhile.
        """
        load = Load(loader, pickle.dumps((variant, *arguments)))
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = Channel(ours, RENEWAL_S)
            self._child = ChildProcess(f"{__package__}.host", [variant], theirs.fileno())
        self._kill = weakref.finalize(self, self._child.kill)
        self._lost: str | None = None
        """Why nothing more is asked of the process, which may take a while to end."""
        self._slots = ReadSlots()
        self._state, file = BatchState.created()
        try:
            with file, self._exchange():
                self._channel.send(load, file)
                loaded: Loaded | Failed = self._received(lambda: None)[0]
        except DeviceLostError as error:
            raise UnavailableError(
                f"{variant} is not loaded: {error}. The log may say more. By SIGKILL, the system "
                "ends what takes more memory than there is."
            ) from error
        if isinstance(loaded, Failed):
            self.close()
            raise loaded.error
        self._loaded = loaded
        self._slowdown = loaded.slowdown

    @property
    def name(self) -> EngineName:
        return self._loaded.name

    @property
    def device(self) -> str:
        return self._loaded.device

    @property
    def sample_rate(self) -> int:
        return self._loaded.sample_rate

    @property
    def calibration(self) -> Calibration | None:
        return self._loaded.calibration

    @property
    def slowdown(self) -> str | None:
        return self._slowdown

    @property
    def fault(self) -> str | None:
        ending = self._child.ending
        return self._lost or (ending and f"the engine's process {ending}")

    def close(self) -> None:
        # At once: there is nothing in it to be saved.
        self._lost = self._lost or "the engine is closed"
        self._kill()

    def generate(
        self,
        batch: Sequence[ResolvedRequest],
        on_step: OnStep,
        is_cancelled: IsCancelled,
        sources: Sequence[Audio | None] = (),
    ) -> list[BatchOutcome]:
        """Have the process generate ``batch``.

        Progress is told every ``RENEWAL_S`` at most, and the last of each row always. A row that is
        cancelled is dropped at the first step after as long. Raises what the engine raises, as
        loading does; its traceback is in the log.
        """
        if self.fault:
            raise DeviceLostError(self.fault)
        distinct = {id(one): one for one in sources if one is not None}
        places = {key: place for place, key in enumerate(distinct)}
        state = self._state
        state.begin(len(batch))
        with _file_of([*distinct.values()]) as file, self._exchange():
            slot, dropped = self._slots.take()
            message = Batch(
                tuple(batch),
                tuple(one.shape for one in distinct.values()),
                tuple(None if one is None else places[id(one)] for one in sources),
                slot,
                dropped,
            )
            state.renew(on_step, is_cancelled)
            self._channel.send(message, file)
            answer: Made | Failed
            answer, new = self._received(lambda: state.renew(on_step, is_cancelled))
            outcomes = answer.outcomes if isinstance(answer, Made) else ()
            shapes = [one for one in outcomes if isinstance(one, tuple)]
            arrays = iter(self._slots.arrays(slot, new, shapes))
            state.renew(on_step, is_cancelled)
        self._slowdown = answer.slowdown
        if isinstance(answer, Failed):
            try:
                raise answer.error
            finally:
                del answer  # or it and the error would keep each other
        return [Generated(next(arrays)) if isinstance(one, tuple) else one for one in outcomes]

    def _received(self, meanwhile: Callable[[], None]) -> tuple[Any, int]:
        def look() -> None:
            if self.fault:  # and somebody else keeps the connection open
                raise EOFError
            meanwhile()

        return self._channel.receive(look)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Have what runs inside go well or end the process: else the answer to one batch could be
        taken for that to the next. Raises ``DeviceLostError`` if the process has ended."""
        try:
            yield
        except (EOFError, OSError) as error:
            self._child.wait(END_TIMEOUT_S)
            self._lost = self.fault or "the engine's process does not answer"
            self.close()
            raise DeviceLostError(self._lost) from error
        except BaseException as error:
            self._lost = f"talking to the engine's process failed ({type(error).__name__})"
            self.close()
            raise


@contextmanager
def _file_of(arrays: Sequence[Audio]) -> Iterator[IO[bytes] | None]:
    """Yield a file with ``arrays``; None if there are none."""
    if not arrays:
        yield None
        return
    with nameless(size_of(one.shape for one in arrays)) as file:
        fill(mapped(os.dup(file.fileno())), arrays)
        yield file
