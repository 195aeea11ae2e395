"""Content Credentials: files that say, signed, that a machine made them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from sa_ray.audio import (
    ContentCredentials,
    Origin,
    encode,
    has_manifest,
    provenance_of,
    provenance_tags,
)
from sa_ray.contracts import MEDIA_TYPES, AudioFormat
from sa_ray.errors import ConfigurationError, GenerationError
from sa_ray.settings import load_settings
from tests.support.jobs import resolved
from tests.support.signing import DAY, Identity, PrivateKey, identity, read_credentials

SIGNED: tuple[AudioFormat, ...] = ("wav", "flac", "mp3")
NEWSCODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def credentials(files: Identity) -> ContentCredentials:
    return ContentCredentials(files.certificate, files.key)


def clip(fmt: AudioFormat) -> bytes:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 22_050)).astype(np.float32)
    request = resolved(prompt="Regen auf Blech, 雨").model_copy(update={"format": fmt})
    return encode(noise, 44_100, fmt, tags=provenance_tags(request, "stable-audio-3", 7))


@pytest.mark.parametrize("fmt", SIGNED)
def test_a_signed_file_says_what_made_it_and_is_trusted(
    fmt: AudioFormat, files: Identity, credentials: ContentCredentials, tmp_path: Path
) -> None:
    plain = clip(fmt)
    signed = credentials.signed(plain, fmt, "stable-audio-3")
    file = tmp_path / f"clip.{fmt}"
    file.write_bytes(signed)

    said = read_credentials(signed, MEDIA_TYPES[fmt], files.anchor)
    assert said["state"] == "Trusted"
    (action,) = said["actions"].values()
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == f"{NEWSCODES}trainedAlgorithmicMedia"
    assert action["softwareAgent"]["name"] == "Stable Audio 3"
    # Its tags and its sound are what they were.
    assert provenance_of(file).request.seed == 7
    for one, other in zip(*(soundfile.read(io.BytesIO(d)) for d in (plain, signed)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fmt", SIGNED)
def test_a_tampered_file_fails(
    fmt: AudioFormat, files: Identity, credentials: ContentCredentials
) -> None:
    tampered = bytearray(credentials.signed(clip(fmt), fmt, "stable-audio-3"))
    tampered[len(tampered) // 2] ^= 1

    assert read_credentials(bytes(tampered), MEDIA_TYPES[fmt], files.anchor)["state"] == "Invalid"


def test_a_file_of_the_procedural_engine_claims_no_trained_model(
    files: Identity, credentials: ContentCredentials
) -> None:
    said = read_credentials(
        credentials.signed(clip("wav"), "wav", "procedural"), "audio/wav", files.anchor
    )

    assert said["actions"]["c2pa.created"]["digitalSourceType"] == f"{NEWSCODES}algorithmicMedia"


@pytest.mark.parametrize("fmt", SIGNED)
def test_an_edit_names_what_it_was_made_from_and_keeps_its_marks(
    fmt: AudioFormat, files: Identity, credentials: ContentCredentials
) -> None:
    sent = credentials.signed(clip(fmt), fmt, "stable-audio-3")
    signed = credentials.signed(
        clip("mp3"), "mp3", "stable-audio-3", Origin(clip("flac"), sent, fmt)
    )

    said = read_credentials(signed, "audio/mpeg", files.anchor)
    assert said["state"] == "Trusted"
    edited = said["actions"]["c2pa.edited"]["digitalSourceType"]
    assert edited == f"{NEWSCODES}compositeWithTrainedAlgorithmicMedia"
    assert said["actions"].keys() == {"c2pa.opened", "c2pa.edited"}
    (ingredient,) = said["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert ingredient["active_manifest"]


def test_an_edit_of_a_file_whose_mark_is_broken_is_signed_without_that(
    files: Identity, credentials: ContentCredentials
) -> None:
    sent = credentials.signed(clip("wav"), "wav", "stable-audio-3")
    signed = credentials.signed(
        clip("wav"), "wav", "stable-audio-3", Origin(clip("flac"), sent[:-1000], "wav")
    )

    said = read_credentials(signed, "audio/wav", files.anchor)
    assert said["state"] == "Trusted"
    (ingredient,) = said["ingredients"]
    assert not ingredient.get("active_manifest")


@pytest.mark.parametrize("fmt", SIGNED)
def test_files_with_a_manifest_are_told_from_others(
    fmt: AudioFormat, credentials: ContentCredentials, tmp_path: Path
) -> None:
    plain, signed = tmp_path / "plain", tmp_path / "signed"
    plain.write_bytes(clip(fmt))
    signed.write_bytes(credentials.signed(clip(fmt), fmt, "stable-audio-3"))

    with plain.open("rb") as one, signed.open("rb") as other:
        assert [has_manifest(one), has_manifest(other)] == [False, True]


def test_ogg_has_no_place_for_a_signature(credentials: ContentCredentials) -> None:
    data = clip("ogg")

    assert credentials.signed(data, "ogg", "stable-audio-3") == data


@pytest.mark.parametrize(
    "key_of",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["es384", "es512", "ed25519", "ps256"],
)
def test_keys_of_each_kind_sign(key_of: Callable[[], PrivateKey], tmp_path: Path) -> None:
    files = identity(tmp_path, key_of())
    credentials = ContentCredentials(files.certificate, files.key)

    signed = credentials.signed(clip("wav"), "wav", "procedural")

    assert read_credentials(signed, "audio/wav", files.anchor)["state"] == "Trusted"


def test_files_that_cannot_sign_are_told_by_their_settings(files: Identity, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    unreadable = (
        (files.certificate, tmp_path / "none.pem", "C2PA_KEY: .* cannot be read"),
        (tmp_path / "none.pem", files.key, "C2PA_CERTIFICATE: .* cannot be read"),
        (files.key, files.key, "C2PA_CERTIFICATE: the file holds no certificate"),
        (files.certificate, files.certificate, "C2PA_KEY: the file holds no private key"),
    )
    for certificate, key, message in unreadable:
        with pytest.raises(ConfigurationError, match=message):
            ContentCredentials(certificate, key)

    made = ec.generate_private_key(ec.SECP256R1())
    secret = BestAvailableEncryption(b"secret")
    for encryption, message in ((NoEncryption(), "not the key of"), (secret, "an encrypted one")):
        other.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        with pytest.raises(ConfigurationError, match=message):
            ContentCredentials(files.certificate, other)
    x = x25519.X25519PrivateKey.generate()
    other.write_bytes(x.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationError, match="not the key of"):
        ContentCredentials(files.certificate, other)


def test_a_curve_that_c2pa_does_not_know_is_told(tmp_path: Path) -> None:
    files = identity(tmp_path, ec.generate_private_key(ec.SECP256K1()))

    with pytest.raises(ConfigurationError, match="Take one on the curves P-256"):
        ContentCredentials(files.certificate, files.key)


def test_an_expired_certificate_is_told_by_its_dates(tmp_path: Path) -> None:
    files = identity(tmp_path, ends=-DAY)

    with pytest.raises(ConfigurationError, match=r"is valid from .* and not today"):
        ContentCredentials(files.certificate, files.key)


def test_a_certificate_for_another_purpose_is_told_at_once(tmp_path: Path) -> None:
    files = identity(tmp_path, purpose=ExtendedKeyUsageOID.SERVER_AUTH)

    with pytest.raises(ConfigurationError, match="C2PA does not sign with it"):
        ContentCredentials(files.certificate, files.key)


def test_a_clip_that_cannot_be_signed_is_not_delivered(credentials: ContentCredentials) -> None:
    with pytest.raises(GenerationError, match="could not be signed"):
        credentials.signed(b"no audio", "wav", "procedural")


def test_certificate_and_key_go_together(monkeypatch: pytest.MonkeyPatch, files: Identity) -> None:
    monkeypatch.setenv("STABLE_AUDIO_C2PA_CERTIFICATE", str(files.certificate))
    with pytest.raises(ConfigurationError, match="go together"):
        load_settings()

    monkeypatch.setenv("STABLE_AUDIO_C2PA_KEY", str(files.key))
    assert load_settings().credentials.c2pa_key == files.key
