"""Certificates for servers on loopback, made anew for each run."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Pair(NamedTuple):
    """Two PEM files."""

    certificate: Path
    key: Path


def authority(directory: Path) -> Pair:
    """`ca.crt` and `ca.key`, signed by itself."""
    return _make(directory, "ca", None, timedelta(days=2), "")


def pair(
    directory: Path,
    name: str,
    ca: Path,
    ca_key: Path,
    lasts: timedelta = timedelta(days=2),
    organization: str = "",
) -> Pair:
    """A certificate for 127.0.0.1, ::1 and localhost, as server and as client `name`."""
    return _make(directory, name, Pair(ca, ca_key), lasts, organization)


def _make(directory: Path, name: str, ca: Pair | None, lasts: timedelta, organization: str) -> Pair:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    subject = x509.Name(names)
    until = datetime.now(UTC) + lasts
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=9))
        .not_valid_after(until)
    )
    if ca is None:
        signer, issuer = key, subject
        usage = x509.KeyUsage(*[i in (5, 6) for i in range(9)])
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        builder = builder.add_extension(usage, True)
    else:
        signer = load_pem_private_key(ca.key.read_bytes(), None)
        issuer = x509.load_pem_x509_certificate(ca.certificate.read_bytes()).subject
        hosts = [x509.DNSName("localhost")]
        hosts += [x509.IPAddress(ip_address(a)) for a in ("127.0.0.1", "::1")]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), False)
    made = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    certificate = builder.issuer_name(issuer).sign(signer, hashes.SHA256())
    made.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return made
