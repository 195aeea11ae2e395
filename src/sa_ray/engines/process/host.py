"""The engine's side: ``python -m sa_ray.engines.process.host DESCRIPTOR PARENT VARIANT``.

``EngineProcess`` runs it with the descriptor of a socket; the variant is for those who list
processes.
"""

import logging
import os
import pickle
import socket
import sys
from contextlib import nullcontext, suppress
from importlib import import_module
from typing import IO, Final

import numpy as np

from sa_ray.engines.port import (
    Audio,
    BatchOutcome,
    Cancelled,
    DeviceLostError,
    Engine,
    Generated,
)
from sa_ray.engines.process.batch_state import BatchState
from sa_ray.engines.process.channel import Channel
from sa_ray.engines.process.messages import Batch, Failed, Load, Loaded, Made, Shape
from sa_ray.engines.process.sample_slots import FilledSlots
from sa_ray.engines.process.shared_memory import arrays_in, mapped
from sa_ray.errors import GenerationError, SaRayError
from sa_ray.parents_end import end_with_parent
from sa_ray.telemetry import configure_logging

_log = logging.getLogger("sa_ray.engines.process.host")

KNOWN: Final = ("builtins", SaRayError.__module__, DeviceLostError.__module__)
"""Modules whose exceptions the other side has too, without importing torch for them."""


def main(descriptor: int, parent: int) -> None:
    """Load an engine and generate with it, until process ``parent`` has ended."""
    end_with_parent(parent)
    configure_logging()
    channel = Channel(socket.socket(fileno=descriptor))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        asked, file = channel.receive()
        state, slots = BatchState(file), FilledSlots()
        if engine := _load(channel, asked):
            while True:
                _answer(channel, engine, state, slots, parent)


def _load(channel: Channel, asked: Load) -> Engine | None:
    try:
        module, _, function = asked.loader.partition(":")
        engine: Engine = getattr(import_module(module), function)(*pickle.loads(asked.arguments))  # noqa: S301 - the replica's
        loaded = Loaded(
            engine.name, engine.device, engine.sample_rate, engine.calibration, engine.slowdown
        )
    except Exception as error:  # noqa: BLE001 - the replica raises it
        if not isinstance(error, SaRayError):
            _log.error("the engine does not load", exc_info=error)
        channel.send(Failed(_sendable(error)))
        return None
    channel.send(loaded)
    return engine


def _answer(
    channel: Channel, engine: Engine, state: BatchState, slots: FilledSlots, parent: int
) -> None:
    asked: Batch
    asked, file = channel.receive()
    slots.drop(asked.dropped)
    distinct: list[Audio] = []
    if file >= 0:
        given = np.frombuffer(mapped(file, writable=False), np.float32)
        distinct = list(arrays_in(given, asked.sources))

    def on_step(row: int, fraction: float) -> None:
        if os.getppid() != parent:  # where the kernel does not end this with it
            os._exit(1)
        state.note_progress(row, fraction)

    answer: Made | Failed
    slot: IO[bytes] | None = None
    try:
        outcomes = engine.generate(
            asked.requests,
            on_step,
            state.is_cancelled,
            [None if place is None else distinct[place] for place in asked.places],
        )
        made = [outcome.samples for outcome in outcomes if isinstance(outcome, Generated)]
        slot = slots.fill(asked.slot, made) if made else None
        answer = Made(tuple(_told(outcome) for outcome in outcomes), engine.slowdown)
    except Exception as error:  # noqa: BLE001 - the replica raises it
        _log.error("a batch of %d failed as a whole", len(asked.requests), exc_info=error)
        answer = Failed(_sendable(error), engine.slowdown)
    with slot or nullcontext():
        channel.send(answer, slot)


def _told(outcome: BatchOutcome) -> Shape | Cancelled | GenerationError:
    match outcome:
        case Generated(samples):
            return samples.shape
        case GenerationError():  # not a subclass, which the other side may not have
            return GenerationError(outcome.message, param=outcome.param)
    return outcome


def _sendable(error: Exception) -> Exception:
    """Return ``error`` if the other side can unpickle it, else a ``RuntimeError`` with its text."""
    if type(error).__module__ in KNOWN:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
        except Exception as reason:  # noqa: BLE001 - whatever pickling takes
            _log.warning("%s cannot be pickled: %s", type(error).__name__, reason)
        else:
            return error.with_traceback(None)  # which holds the memory of the batch
    return RuntimeError(f"{type(error).__qualname__}: {error}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
