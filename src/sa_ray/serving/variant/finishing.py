"""The last steps of a clip: level, encoding, tags and signature."""

from sa_ray.audio import (
    UNSIGNED,
    ContentCredentials,
    Origin,
    encode,
    mastered,
    provenance_tags,
)
from sa_ray.contracts import OPUS_SAMPLE_RATE, AudioFormat, AudioInfo, ResolvedRequest
from sa_ray.engines import Engine
from sa_ray.serving.messages import EncodedAudio
from sa_ray.serving.variant.second_attempt import Checked
from sa_ray.settings import CredentialSettings


class Finishing:
    """Turns clips of ``engine`` into files. For any thread, unlike the engine's own methods.

    ``credentials``: what signs them; None: nothing does.
    """

    def __init__(self, engine: Engine, credentials: ContentCredentials | None) -> None:
        self._engine = engine
        self._credentials = credentials

    def signs(self, fmt: AudioFormat) -> bool:
        """Whether files of ``fmt`` are signed."""
        return self._credentials is not None and fmt != UNSIGNED

    def finish(
        self, request: ResolvedRequest, checked: Checked, origin: Origin | None
    ) -> EncodedAudio:
        """Return the file of one clip.

        ``origin``: what it was edited from, if its format is signed. Raises
        ``GenerationError`` if it cannot be encoded or signed.
        """
        engine, made = self._engine, checked.rendered.samples
        # The encoder itself resamples for Opus, in pieces.
        opus = request.format == "ogg"
        rate = engine.sample_rate if opus else request.sample_rate or engine.sample_rate
        samples = mastered(
            made,
            engine.sample_rate,
            rate,
            request,
            # An engine limits what it makes, but not what it is joined to.
            limit=request.source is not None or request.loop,
            loop=request.loop,
        )
        info = AudioInfo(
            engine=engine.name,
            sample_rate=OPUS_SAMPLE_RATE if opus else rate,
            channels=samples.shape[0],
            duration=made.shape[1] / engine.sample_rate,
            format=request.format,
            generation_seconds=checked.rendered.seconds,
            seed=checked.seed,
            warning=checked.warning,
        )
        data = encode(
            samples,
            rate,
            request.format,
            tags=provenance_tags(request, engine.name, checked.seed),
            bit_depth=request.bit_depth,
            bitrate=request.bitrate,
            loop=request.loop,
        )
        if self._credentials:
            data = self._credentials.signed(data, request.format, engine.name, origin)
        return EncodedAudio(data, info)


def credentials_of(settings: CredentialSettings) -> ContentCredentials | None:
    """Return what signs files by these settings; None: nothing does."""
    if settings.c2pa_certificate is None or settings.c2pa_key is None:
        return None
    return ContentCredentials(settings.c2pa_certificate, settings.c2pa_key)
