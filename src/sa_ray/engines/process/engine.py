"""``EngineProcess``: the replica's side, which asks and waits."""

import pickle
import socket
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from sa_ray.contracts import EngineName, ResolvedRequest, VariantName
from sa_ray.engines.port import (
    Audio,
    BatchOutcome,
    DeviceLostError,
    Generated,
    IsCancelled,
    OnStep,
)
from sa_ray.engines.process.channel import Channel
from sa_ray.engines.process.child import ChildProcess
from sa_ray.engines.process.messages import Batch, Failed, Load, Loaded, Made
from sa_ray.engines.process.shared_memory import BatchState, filled, mapped
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
            self._channel = Channel(ours.detach())
            self._child = ChildProcess(f"{__package__}.host", [variant], theirs.fileno())
        self._kill = weakref.finalize(self, self._child.kill)
        try:
            with self._exchange():
                self._channel.send(load)
                loaded: Loaded | Failed = self._channel.receive()
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
        return ending and f"the engine's process {ending}"

    def close(self) -> None:
        # At once: there is nothing in it to be saved.
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
        with ExitStack() as files:
            state, file = BatchState.created(len(batch))
            opened = [files.enter_context(file)]
            distinct = {id(one): one for one in sources if one is not None}
            opened += [files.enter_context(filled(one)) for one in distinct.values()]
            places = {key: place for place, key in enumerate(distinct)}
            message = Batch(
                tuple(batch),
                tuple(one.shape for one in distinct.values()),
                tuple(None if one is None else places[id(one)] for one in sources),
            )
            with self._exchange():
                state.renew(on_step, is_cancelled)
                self._channel.send(message, opened)
        with self._exchange():
            while not self._channel.has_message(RENEWAL_S):
                if self.fault:
                    raise EOFError  # somebody else keeps the connection open
                state.renew(on_step, is_cancelled)
            answer: Made | Failed = self._channel.receive()
            outcomes = self._outcomes(answer) if isinstance(answer, Made) else []
            state.renew(on_step, is_cancelled)
        self._slowdown = answer.slowdown
        if isinstance(answer, Failed):
            try:
                raise answer.error
            finally:
                del answer  # or it and the error would keep each other, and the batch's memory
        return outcomes

    def _outcomes(self, made: Made) -> list[BatchOutcome]:
        return [
            Generated(mapped(self._channel.receive_file(), one, writable=True))
            if isinstance(one, tuple)
            else one
            for one in made.outcomes
        ]

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Have what runs inside go well or end the process: else the answer to one batch could be
        taken for that to the next. Raises ``DeviceLostError`` if the process has ended."""
        try:
            yield
        except (EOFError, OSError) as error:
            self._child.wait(END_TIMEOUT_S)
            self.close()
            raise DeviceLostError(self.fault) from error
        except BaseException:
            self.close()
            raise
