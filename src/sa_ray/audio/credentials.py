"""Content Credentials: a signed C2PA manifest in a file, which says that a machine made it.

Needs the extra ``c2pa``. Terms are those of the C2PA specification 2.2; kinds of digital sources
are those of IPTC's NewsCodes, "Digital Source Type".
"""

import importlib.util
import io
import logging
import mmap
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sa_ray.contracts import MEDIA_TYPES, AudioFormat, EngineName
from sa_ray.errors import ConfigurationError, GenerationError

UNSIGNED: Final[AudioFormat] = "ogg"
"""The one format in which C2PA has no place for a manifest."""

_CERTIFICATE: Final = "STABLE_AUDIO_C2PA_CERTIFICATE"
_KEY: Final = "STABLE_AUDIO_C2PA_KEY"

_SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_CREATED: Final[dict[EngineName, str]] = {
    "stable-audio-3": "trainedAlgorithmicMedia",
    "procedural": "algorithmicMedia",
}
_EDITED: Final[dict[EngineName, str]] = {
    "stable-audio-3": "compositeWithTrainedAlgorithmicMedia",
    "procedural": "composite",
}
_AGENTS: Final[dict[EngineName, str]] = {
    "stable-audio-3": "Stable Audio 3",
    "procedural": "sa-ray's procedural engine",
}
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

_EMPTY_WAV: Final = (
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0D\xac\0\0\x88X\x01\0\x02\0\x10\0data\0\0\0\0"
)

_STORE: Final = bytes.fromhex("6332706100110010800000AA00389B71")
"""Type of the JUMBF box that is a manifest store ("Manifest Store" there), in any format."""

logger = logging.getLogger(__name__)

# Nothing is asked of the network while a client waits.
_OFFLINE: Final = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}


def require_c2pa() -> None:
    """Raise ``ConfigurationError`` if the package that signs is not installed."""
    if importlib.util.find_spec("c2pa") is None:
        raise ConfigurationError(
            f"{_CERTIFICATE} is set, but the package that signs is not installed: install the "
            "extra `c2pa` (`uv sync --extra c2pa`).",
            param=_CERTIFICATE,
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """What a clip was edited from."""

    stored: bytes
    """FLAC file of its audio."""
    sent: bytes | None = None
    """The file as its client sent it, if it may carry a manifest."""
    sent_format: AudioFormat = "flac"

    def files(self) -> list[tuple[bytes, AudioFormat]]:
        """Return the files to name as the ingredient: the first that C2PA can read."""
        return [*([(self.sent, self.sent_format)] if self.sent else []), (self.stored, "flac")]


def has_manifest(file: IO[bytes]) -> bool:
    """Return whether ``file``, on disk and not empty, may carry a C2PA manifest."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_STORE) >= 0


class ContentCredentials:
    """Signs files with one certificate. Thread-safe.

    ``certificate``: PEM file of it and of those that lead to its authority; ``key``: of its private
    key. Raises ``ConfigurationError``, which names the setting, if the package is not installed or
    the files cannot be used: they are missing, no PEM, of a kind that C2PA does not know, do not
    belong together, or the certificate is not valid now or not for this purpose.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        require_c2pa()
        self._chain, self._key = _content(certificate, _CERTIFICATE), _content(key, _KEY)
        self._algorithm = _algorithm(self._chain, self._key)
        try:
            self.signed(_EMPTY_WAV, "wav", "procedural")
        except GenerationError as error:
            raise ConfigurationError(
                f"{_CERTIFICATE}: C2PA does not sign with it ({error.__cause__}). It needs the "
                "purpose emailProtection or documentSigning, and must not be its own authority.",
                param=_CERTIFICATE,
            ) from error

    def signed(
        self, data: bytes, fmt: AudioFormat, engine: EngineName, origin: Origin | None = None
    ) -> bytes:
        """Return the file ``data`` with a manifest; Ogg, which has no place for one, as it is.

        The manifest of ``origin`` is in it too, if that has one which C2PA can read. No two
        manifests are the same. Raises ``GenerationError`` if the certificate has expired meanwhile,
        or C2PA refuses it.
        """
        if fmt == UNSIGNED:
            return data
        import c2pa  # an extra

        for ingredient in origin.files() if origin else [None]:
            try:
                return self._signed(data, fmt, engine, ingredient)
            except c2pa.C2paError as error:
                refusal = error
                logger.warning("%s: C2PA did not sign: %s", _CERTIFICATE, error)
        raise GenerationError(
            "The clip could not be signed by C2PA, and is not delivered without. Tell the "
            f"operator, who finds the reason in the log: {_CERTIFICATE}."
        ) from refusal

    def _signed(
        self,
        data: bytes,
        fmt: AudioFormat,
        engine: EngineName,
        ingredient: tuple[bytes, AudioFormat] | None,
    ) -> bytes:
        import c2pa

        signer_of = c2pa.C2paSignerInfo(self._algorithm.encode(), self._chain, self._key, None)
        file = io.BytesIO()
        with (
            c2pa.Context.from_dict(_OFFLINE) as context,
            c2pa.Signer.from_info(signer_of) as signer,
            c2pa.Builder(_manifest(MEDIA_TYPES[fmt]), context) as builder,
        ):
            if ingredient is None:
                builder.add_action(_action("c2pa.created", _CREATED[engine], engine))
            else:
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
                source = {"title": "Uploaded audio", "relationship": "parentOf"}
                content, kind = ingredient
                builder.add_ingredient(source, MEDIA_TYPES[kind], io.BytesIO(content))
                builder.add_action(_action("c2pa.edited", _EDITED[engine], engine))
            builder.sign(signer, MEDIA_TYPES[fmt], io.BytesIO(data), file)
        return file.getvalue()


def _manifest(media_type: str) -> dict[str, Any]:
    return {
        "claim_generator_info": [{"name": "sa-ray", "version": version("sa-ray")}],
        "format": media_type,
    }


def _action(action: str, source_type: str, engine: EngineName) -> dict[str, Any]:
    return {
        "action": action,
        "digitalSourceType": f"{_SOURCE_TYPE}{source_type}",
        "softwareAgent": {"name": _AGENTS[engine]},
    }


def _content(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: {file} cannot be read ({error.strerror}).", param=setting
        ) from None


def _algorithm(chain: bytes, key: bytes) -> str:
    """Return the name that C2PA has for signatures by this key."""
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise ConfigurationError(
            f"{_CERTIFICATE}: the file holds no certificate in PEM.", param=_CERTIFICATE
        ) from None
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):  # the latter for one that is encrypted
        raise ConfigurationError(
            f"{_KEY}: the file holds no private key in PEM, or an encrypted one.", param=_KEY
        ) from None
    if private.public_key() != certificate.public_key():
        raise ConfigurationError(
            f"{_KEY} is not the key of {_CERTIFICATE}'s first certificate.", param=_KEY
        )
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ConfigurationError(
            f"{_CERTIFICATE} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, and not today.",
            param=_CERTIFICATE,
        )
    match private:
        case ec.EllipticCurvePrivateKey() if private.curve.name in _CURVES:
            return _CURVES[private.curve.name]
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case rsa.RSAPrivateKey():
            return "ps256"
    raise ConfigurationError(
        f"{_KEY} is of a kind that C2PA does not sign with. Take one on the curves P-256, P-384 or "
        "P-521, Ed25519, or RSA.",
        param=_KEY,
    )
