"""One certificate authority for all, and the certificates of a control plane, as PEM files."""

import datetime as dt
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = dt.timedelta(days=365)


@dataclass(frozen=True)
class Authority:
    """The authority of ``folder``, made there with ``create``."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, folder: Path) -> "Authority":
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("sa-ray-tests")
        certificate = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        authority = cls(folder, key, certificate)
        authority._write("ca", key, certificate)
        return authority

    def issue(
        self, file: str, user: str, groups: tuple[str, ...] = (), hosts: tuple[str, ...] = ()
    ) -> None:
        """Write ``file``.crt and ``file``.key: for ``user`` of ``groups`` as a client, and for
        ``hosts``, names or addresses, as a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(user, groups), self.certificate.subject, key).add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            critical=False,
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        self._write(file, key, builder.sign(self.key, hashes.SHA256()))

    def kubeconfig(self, file: str) -> str:
        """Return what kubectl and the like read, for the client of ``issue``'s ``file``."""
        server = {
            "server": "https://127.0.0.1:6443",
            "certificate-authority": f"{self.folder}/ca.crt",
        }
        user = {
            "client-certificate": f"{self.folder}/{file}.crt",
            "client-key": f"{self.folder}/{file}.key",
        }
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "local", "cluster": server}],
                "users": [{"name": file, "user": user}],
                "contexts": [{"name": "local", "context": {"cluster": "local", "user": file}}],
                "current-context": "local",
            }
        )

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        path = self.folder / f"{file}.key"
        path.touch(mode=0o600)
        path.write_bytes(secret)
        (self.folder / f"{file}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + VALID_FOR)
    )


def _name(user: str, groups: tuple[str, ...] = ()) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
