"""Private key files: what can be told without the passphrase, and their unlocking."""

import base64
import binascii
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = b"openssh-key-v1\0"
_ARMOUR = re.compile(
    rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----\s(.*?)-----END \1PRIVATE KEY-----", re.DOTALL
)


class KeyFileError(Exception):
    """The file holds no private key that we could use; the message says why."""


class WrongPassphraseError(Exception):
    """The passphrase does not open the key."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key file, not yet unlocked."""

    path: str
    data: bytes = field(repr=False)
    encrypted: bool
    public: bytes | None  # the public half, where it can be told without a passphrase


def read_key_file(path: str) -> KeyFile:
    """Read the file at `path`. Raises OSError, or KeyFileError for what is no private key."""
    data = Path(path).read_bytes()
    found = _ARMOUR.search(data)
    if found is None:
        kind = "a public key" if data.startswith((b"ssh-", b"ecdsa-", b"sk-")) else "no private key"
        raise KeyFileError(f"it holds {kind}")
    if found[1] != b"OPENSSH ":
        encrypted = b"ENCRYPTED" in found[0]
        return KeyFile(path, data, encrypted, read_public_key(f"{path}.pub"))
    try:
        body = base64.b64decode(found[2])
        if not body.startswith(_MAGIC):
            raise KeyFileError("it is damaged")
        cipher, at = read_string(body, len(_MAGIC))
        for _ in ("kdf", "its options"):
            _, at = read_string(body, at)
        public, _ = read_string(body, at + 4)
    except (binascii.Error, struct.error) as exc:
        raise KeyFileError("it is damaged") from exc
    return KeyFile(path, data, cipher != b"none", public)


def read_public_key(path: str) -> bytes | None:
    """The blob of the public key or certificate at `path`; None where there is none."""
    try:
        words = Path(path).read_bytes().split()
        blob = base64.b64decode(words[1], validate=True)
        kind, _ = read_string(blob, 0)
    except (OSError, IndexError, binascii.Error, struct.error):
        return None
    return blob if kind == words[0] else None


def certifies(certificate: bytes, public: bytes) -> bool:
    """Whether an OpenSSH certificate is one for the key `public`."""
    try:
        kind, key_at = read_string(public, 0)
        cert_kind, at = read_string(certificate, 0)
        _, at = read_string(certificate, at)  # a nonce, and then the same fields as in the key
    except struct.error:
        return False
    return cert_kind == kind + b"-cert-v01@openssh.com" and certificate.startswith(
        public[key_at:], at
    )


def unlock(file: KeyFile, passphrase: str | None) -> str:
    """The private key, unencrypted, in OpenSSH's format. It must never be written anywhere.

    Raises KeyFileError, or WrongPassphraseError.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
        load_ssh_private_key,
    )

    openssh = b"BEGIN OPENSSH" in file.data
    load = load_ssh_private_key if openssh else load_pem_private_key
    secret = passphrase.encode() if passphrase is not None and file.encrypted else None
    try:
        key = load(file.data, secret)
    except UnsupportedAlgorithm as exc:
        raise KeyFileError("its type or cipher is not supported: try it with ssh-agent") from exc
    except (ValueError, TypeError) as exc:
        if file.encrypted:
            raise WrongPassphraseError from exc
        raise KeyFileError("it is damaged") from exc
    if not isinstance(
        key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    ):
        raise KeyFileError("its type is not supported: use an ed25519, ecdsa or rsa key")
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def read_string(data: bytes, at: int) -> tuple[bytes, int]:
    """SSH's string at offset `at`, and the offset after it. Raises struct.error."""
    (size,) = struct.unpack_from(">I", data, at)
    end = at + 4 + size
    if end > len(data):
        raise struct.error("a string runs past the end")
    return data[at + 4 : end], end
