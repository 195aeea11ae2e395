"""Audio files: master and encode samples, probe headers."""

from sa_ray.audio.encoding import MAX_TAG_BYTES, TAGS, encode
from sa_ray.audio.mastering import loudness_of, mastered
from sa_ray.audio.probing import AudioProbe, probe

__all__ = ["MAX_TAG_BYTES", "TAGS", "AudioProbe", "encode", "loudness_of", "mastered", "probe"]
