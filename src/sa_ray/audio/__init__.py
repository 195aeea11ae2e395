"""Audio files: encode samples, probe headers."""

from sa_ray.audio.encoding import MAX_TAG_BYTES, OPUS_SAMPLE_RATE, TAGS, encode
from sa_ray.audio.probing import AudioProbe, probe

__all__ = ["MAX_TAG_BYTES", "OPUS_SAMPLE_RATE", "TAGS", "AudioProbe", "encode", "probe"]
