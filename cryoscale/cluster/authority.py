"""An authority that signs one certificate per role, and is then forgotten: only its certificate is handed out."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["chain", "has_ended"]

_CLOCKS_DIFFER = datetime.timedelta(minutes=10)
_PURPOSES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def chain(roles: Sequence[str], valid_for: datetime.timedelta) -> dict[str, bytes]:
    """Return files by name: ``ca.pem`` of a new authority, ``ROLE.pem`` and ``ROLE-key.pem`` of each role."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("cryoscale run")
    until = datetime.datetime.now(datetime.UTC) + valid_for
    builder = _builder(name, name, key.public_key(), until, path_length=0)
    files = {"ca.pem": builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)}
    for role in roles:
        own = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(f"cryoscale {role}"), name, own.public_key(), until)
        signed = builder.add_extension(_PURPOSES, critical=False).sign(key, hashes.SHA256())
        files[f"{role}.pem"] = signed.public_bytes(serialization.Encoding.PEM)
        files[f"{role}-key.pem"] = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return files


def has_ended(certificate: bytes) -> bool:
    """Whether the time of a certificate is over."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc < datetime.datetime.now(datetime.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    until: datetime.datetime,
    *,
    path_length: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.datetime.now(datetime.UTC), until) - _CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=path_length is not None, path_length=path_length), critical=True)
    )
