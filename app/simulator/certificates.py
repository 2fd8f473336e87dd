"""The certificate authority of a simulated cluster. It signs a certificate only when it is read, to save time."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME_S = 1000 * 86_400


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """An issued client certificate. `not_before` and `not_after` are Unix seconds."""

    ngt_uuid: str
    serial: int
    not_before: int
    not_after: int


def issue(ngt_uuid: str, *, not_before: float) -> ClientCertificate:
    start = int(not_before)
    return ClientCertificate(ngt_uuid, secrets.randbits(120) | 1, start, start + LIFETIME_S)


@cache
def pem_of(certificate: ClientCertificate) -> str:
    start = datetime.fromtimestamp(certificate.not_before, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(certificate.ngt_uuid))
        .issuer_name(_name("Simulated NGT certificate authority"))
        .public_key(_guest_key().public_key())
        .serial_number(certificate.serial)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(seconds=certificate.not_after - certificate.not_before))
    )
    signed = builder.sign(_authority_key(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@cache
def _authority_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def _guest_key() -> ec.EllipticCurvePrivateKey:
    # All guests share one key: it is never read, and 500 keys would take a second.
    return ec.generate_private_key(ec.SECP256R1())
