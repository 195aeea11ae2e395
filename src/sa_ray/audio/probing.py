"""Probe an audio file: read what its header says."""

import io
from dataclasses import dataclass

import soundfile as sf

from sa_ray.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class AudioProbe:
    """Header of an audio file.

    ``sample_rate`` in Hz, ``frames`` per channel; ``format`` is libsndfile's name of the container
    in lower case, such as ``wav``, ``mp3`` or ``aiff``.
    """

    sample_rate: int
    channels: int
    frames: int
    format: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


def probe(data: bytes) -> AudioProbe:
    """Read the header of an audio file.

    Raises ``InvalidRequestError`` (param ``audio``) for anything but audio, and for audio without
    any sound.
    """
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            found = AudioProbe(file.samplerate, file.channels, file.frames, file.format.lower())
    except sf.LibsndfileError:
        raise InvalidRequestError(
            "This is not an audio file that can be read. Send WAV, FLAC, MP3, Ogg or AIFF.",
            param="audio",
        ) from None
    if found.frames < 1:
        raise InvalidRequestError("The audio file holds no sound.", param="audio")
    return found
