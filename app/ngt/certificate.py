"""A guest's `client-cert.pem` to facts. Public parts alone: text with a private key in it is refused unread."""

import re
from datetime import UTC

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from app.ngt.answer import printable
from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import Certificate

MAX_PEM_BYTES = 64 * 1024
"""A chain of a few certificates takes less than 10 KiB."""

_PRIVATE_KEY = re.compile(r"(?:BEGIN|END)[\sA-Z0-9]{0,40}PRIVATE\s{1,9}KEY", re.IGNORECASE)


def read_certificate(pem: str) -> Certificate:
    """The client's certificate of a PEM text: of a chain the first that is no CA's, else the first.

    VALIDATION_FAILED for a private key anywhere in the text, for more than `MAX_PEM_BYTES`, and for what is no
    certificate. No message repeats any of the text.
    """
    if len(pem) > MAX_PEM_BYTES or len(pem.encode(errors="replace")) > MAX_PEM_BYTES:
        raise _refused(f"a certificate has at most {MAX_PEM_BYTES} bytes")
    if _PRIVATE_KEY.search(pem):
        raise _refused("the text holds a private key; only the public certificate is ever wanted, and nothing was kept")
    try:
        chain = x509.load_pem_x509_certificates(pem.encode(errors="replace"))
        leaf = next((certificate for certificate in chain if not _is_ca(certificate)), chain[0])
        return _facts(leaf)
    # The library reads lazily and has a family of errors for broken certificates, some of them no ValueError.
    except Exception:  # noqa: BLE001 - whatever it is, the text is no certificate that can be read.
        raise _refused("the text is not a certificate in PEM form") from None


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


def _refused(message: str) -> Fault:
    return Fault(FaultCode.VALIDATION_FAILED, message)
