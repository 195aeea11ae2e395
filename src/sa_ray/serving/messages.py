"""What a variant replica sends back."""

from dataclasses import dataclass

from sa_ray.contracts import AudioInfo


@dataclass(frozen=True, slots=True)
class Progress:
    """``fraction`` in [0, 1] of the generation is done."""

    fraction: float


@dataclass(frozen=True, slots=True)
class AudioReady:
    """The next message of the stream is the encoded audio, as plain ``bytes``.

    Sent apart so that whoever passes the audio on by reference need not fetch it.
    """

    info: AudioInfo


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    data: bytes
    info: AudioInfo
