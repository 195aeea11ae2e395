"""Messages from a variant replica."""

from dataclasses import dataclass, fields
from pickle import PickleBuffer
from typing import Any

from sa_ray.contracts import AudioInfo


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a generation: ``fraction`` in [0, 1] is done."""

    fraction: float


@dataclass(frozen=True, slots=True)
class AudioReady:
    """Announces the encoded audio, the next message of the stream, as plain ``bytes``.

    The audio is sent apart, so that whoever passes it on by reference need not fetch it.
    """

    info: AudioInfo


@dataclass(frozen=True, slots=True)
class BusyReplica:
    """The only answer to a request that is turned away; it is to be sent again.

    ``until``: Unix time at which ``replica`` has done what came before it.
    """

    replica: str
    until: float


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    data: bytes
    info: AudioInfo
    encode_seconds: float = 0.0
    """Seconds that mastering, encoding and signing took, the wait for a thread included."""

    def __getstate__(self) -> list[Any]:
        """Pickle the file out of band: within the pickle it would be copied there and here."""
        return [PickleBuffer(self.data), self.info, self.encode_seconds]

    def __setstate__(self, state: list[Any]) -> None:
        """Unpickle; replicas of the deploy before say nothing of seconds, and send plain bytes."""
        for position, field in enumerate(fields(self)):
            value = state[position] if position < len(state) else field.default
            object.__setattr__(self, field.name, value)
        # A copy of what Ray received it in: Serve's own proxy can be sent bytes alone.
        object.__setattr__(self, "data", bytes(self.data))
