"""Make the key and certificate of a private Ray's gRPC: mutual TLS, the same at each end."""

import datetime as dt
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_FOR = dt.timedelta(days=3650)
"""Longer than any server runs: Ray reads the files once."""


class Certificate(NamedTuple):
    """PEM texts of a certificate, which is its own authority, and of its key."""

    certificate: str
    key: str


def self_signed(address: str = "127.0.0.1") -> Certificate:
    """Make a new key on P-256 and a certificate for the IP ``address``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sa-ray")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
    )


def write_private(path: Path, text: str) -> Path:
    """Write a new file that only this user can read; raises ``FileExistsError`` if there is one."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)
    return path
