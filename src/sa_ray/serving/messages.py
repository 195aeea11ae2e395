"""Messages from a variant replica."""

from dataclasses import dataclass

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
class EncodedAudio:
    data: bytes
    info: AudioInfo
