"""The facts of a guest's `client-cert.pem`. Text with a private key in it is refused unread."""

import re
from collections.abc import Sequence
from datetime import UTC

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.text import printable
from app.ngt.vocabulary import Certificate

MAX_PEM_BYTES = 64 * 1024
"""A chain of a few certificates takes less than 10 KiB."""

_PRIVATE_KEY = re.compile(r"(?:BEGIN|END)[\sA-Z0-9]{0,40}PRIVATE\s{1,9}KEY", re.IGNORECASE)


def parse_certificate(pem: str) -> Certificate:
    """The client's certificate of a PEM text: of a chain in any order, the first that has not issued another one.

    PRIVATE_KEY_REFUSED for a private key anywhere in the text, BODY_TOO_LARGE for more than `MAX_PEM_BYTES`, and
    VALIDATION_FAILED for text that is not a certificate. No message repeats any of the text.
    """
    return _read(pem)[0]


def read_handed_in(pem: str) -> Certificate:
    """As `parse_certificate`, but VALIDATION_FAILED also for a text that has the certificate of a root authority alone.

    A root certificate is valid for many years: taken for the client's, it would suppress every warning of expiry.
    """
    certificate, chain = _read(pem)
    if certificate.subject == certificate.issuer and all(map(_is_ca, chain)):
        raise Fault(FaultCode.VALIDATION_FAILED, "the text has the certificate of an authority, not that of a client")
    return certificate


def refuse_private_key(text: str) -> None:
    """PRIVATE_KEY_REFUSED for a text with any part of a private key in PEM form."""
    if _PRIVATE_KEY.search(text):
        message = "the text holds a private key; only the public certificate is ever wanted, and nothing was kept"
        raise Fault(FaultCode.PRIVATE_KEY_REFUSED, message)


def _read(pem: str) -> tuple[Certificate, Sequence[x509.Certificate]]:
    if len(pem) > MAX_PEM_BYTES or len(pem.encode(errors="replace")) > MAX_PEM_BYTES:
        raise Fault(FaultCode.BODY_TOO_LARGE, f"a certificate has at most {MAX_PEM_BYTES} bytes")
    refuse_private_key(pem)
    try:
        chain = x509.load_pem_x509_certificates(pem.encode(errors="replace"))
        return _facts(_leaf_of(chain)), chain
    # The library parses lazily, and some of its errors for broken certificates are not a ValueError.
    except Exception:  # noqa: BLE001 - whatever the error is, the text is not a readable certificate.
        raise Fault(FaultCode.VALIDATION_FAILED, "the text is not a certificate in PEM form") from None


def _leaf_of(chain: Sequence[x509.Certificate]) -> x509.Certificate:
    """Some authorities do not mark their own certificate, so the issuer of another certificate is not a leaf either."""
    issuers = [certificate.issuer for certificate in chain if certificate.issuer != certificate.subject]
    unmarked = [certificate for certificate in chain if not _is_ca(certificate)]
    leaves = [certificate for certificate in unmarked if certificate.subject not in issuers]
    return [*leaves, *unmarked, *chain][0]


def _facts(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        not_before=certificate.not_valid_before_utc.astimezone(UTC),
        not_after=certificate.not_valid_after_utc.astimezone(UTC),
        serial=format(certificate.serial_number, "x"),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        subject=printable(certificate.subject.rfc4514_string()),
        issuer=printable(certificate.issuer.rfc4514_string()),
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
