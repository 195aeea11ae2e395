"""Audio files: master and encode samples, probe headers, say and read what made them."""

from sa_ray.audio.credentials import (
    UNSIGNED,
    ContentCredentials,
    Origin,
    has_manifest,
    require_c2pa,
)
from sa_ray.audio.encoding import MAX_TAG_BYTES, TAGS, encode
from sa_ray.audio.mastering import loudness_of, mastered
from sa_ray.audio.pcm import to_integers
from sa_ray.audio.probing import AudioProbe, probe
from sa_ray.audio.provenance import Provenance, provenance_of, provenance_tags
from sa_ray.audio.reading import read_source
from sa_ray.audio.reading_pool import ReadingPool
from sa_ray.audio.resampling import resampled
from sa_ray.audio.splicing import Span, laid_out, smoothest_start, spliced, turned

__all__ = [
    "MAX_TAG_BYTES",
    "TAGS",
    "UNSIGNED",
    "AudioProbe",
    "ContentCredentials",
    "Origin",
    "Provenance",
    "ReadingPool",
    "Span",
    "encode",
    "has_manifest",
    "laid_out",
    "loudness_of",
    "mastered",
    "probe",
    "provenance_of",
    "provenance_tags",
    "read_source",
    "require_c2pa",
    "resampled",
    "smoothest_start",
    "spliced",
    "to_integers",
    "turned",
]
