"""An authority of the tests' own, certificates by it, and what a reader of C2PA says of a file."""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """Files of a certificate with its authority's, and of its key; ``anchor``: the authority's."""

    certificate: Path
    key: Path
    anchor: str


def identity(
    folder: Path,
    key: PrivateKey | None = None,
    *,
    ends: timedelta = DAY,
    purpose: ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
) -> Identity:
    """Write a certificate as C2PA asks for it (specification 2.2, "Certificate Profile")."""
    authority = ec.generate_private_key(ec.SECP256R1())
    key = key or ec.generate_private_key(ec.SECP256R1())
    root = (
        _builder("An authority", "An authority", authority, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority, hashes.SHA256())
    )
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    leaf = (
        _builder("A studio", "An authority", key, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority, hashes.SHA256())
    )
    anchor = root.public_bytes(Encoding.PEM)
    files = Identity(folder / "chain.pem", folder / "key.pem", anchor.decode())
    files.certificate.write_bytes(leaf.public_bytes(Encoding.PEM) + anchor)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def read_credentials(data: bytes, media_type: str, anchor: str) -> dict[str, Any]:
    """What C2PA's own reader says: ``state``, and of the file's own manifest ``actions`` (by name)
    and ``ingredients``."""
    trust = {"trust": {"trust_anchors": anchor}, "verify": {"verify_trust": True}}
    with (
        c2pa.Context.from_dict(trust) as context,
        c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader,
    ):
        said = json.loads(reader.json())
    manifest = said["manifests"][said["active_manifest"]]
    actions = [
        action
        for assertion in manifest["assertions"]
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    return {
        "state": said["validation_state"],
        "actions": {action["action"]: action for action in actions},
        "ingredients": manifest.get("ingredients", []),
    }


def _builder(
    subject: str, issuer: str, key: PrivateKey, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    attributes = ((NameOID.COMMON_NAME, text), (NameOID.ORGANIZATION_NAME, "Tests"))
    return x509.Name([x509.NameAttribute(*attribute) for attribute in attributes])
