"""Facts of a guest's certificate, and what is refused unread."""

from base64 import encodebytes
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.errors import Fault, FaultCode
from app.ngt.tools.certificate import MAX_PEM_BYTES, parse_certificate

NOT_BEFORE = datetime(2023, 11, 25, 2, 11, 4, tzinfo=UTC)
NOT_AFTER = NOT_BEFORE + timedelta(days=1000)
KEY = ec.generate_private_key(ec.SECP256R1())


def issue(name: str, *, ca: bool | None = None, serial: int = 0xAB12, by: str = "NGT CA") -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, by)]))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(KEY, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


LEAF = issue("guest 日本", ca=False)
CA = issue("NGT CA", ca=True, serial=1)
PRIVATE_KEYS = [
    KEY.private_bytes(Encoding.PEM, private_format, NoEncryption()).decode()
    for private_format in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH)
]


def refusal(text: str, code: FaultCode = FaultCode.VALIDATION_FAILED) -> str:
    with pytest.raises(Fault) as raised:
        parse_certificate(text)
    assert raised.value.code is code
    assert raised.value.__cause__ is None
    return raised.value.message


def test_the_facts_of_a_certificate_are_read() -> None:
    certificate = parse_certificate(pem(LEAF))
    assert (certificate.not_before, certificate.not_after) == (NOT_BEFORE, NOT_AFTER)
    assert certificate.not_after.utcoffset() == timedelta(0)
    assert certificate.serial == "ab12"
    assert certificate.fingerprint == LEAF.fingerprint(hashes.SHA256()).hex()
    assert (certificate.subject, certificate.issuer) == ("CN=guest 日本", "CN=NGT CA")


@pytest.mark.parametrize("chain", [(LEAF, CA), (CA, LEAF), (CA, CA, LEAF), (issue("no extension", serial=0xAB12), CA)])
def test_of_a_chain_the_certificate_that_is_no_ca_counts(chain: tuple[x509.Certificate, ...]) -> None:
    assert parse_certificate(pem(*chain)).serial == "ab12"


@pytest.mark.parametrize("chain", list(permutations(["leaf", "authority", "root"])))
def test_an_authority_that_is_not_marked_as_one_is_known_by_what_it_issued(chain: tuple[str, ...]) -> None:
    certificates = {
        "leaf": issue("guest", by="authority"),
        "authority": issue("authority", by="root", serial=2),
        "root": issue("root", by="root", serial=3),
    }
    assert parse_certificate(pem(*(certificates[name] for name in chain))).serial == "ab12"


def test_a_certificate_that_is_its_own_issuer_is_a_leaf_where_it_is_alone() -> None:
    assert parse_certificate(pem(issue("guest", by="guest"))).serial == "ab12"


def test_of_certificate_authorities_alone_the_first_counts() -> None:
    assert parse_certificate(pem(CA, issue("another", ca=True))).serial == "1"


@pytest.mark.parametrize(
    "text",
    [
        pem(LEAF).replace("\n", "\r\n"),
        "\ufeff" + pem(LEAF),
        "subject=CN = guest\nValidity: X509v3 Private Key Usage Period\n" + pem(LEAF) + "\n\n",
    ],
)
def test_what_windows_and_openssl_write_around_a_certificate_does_not_matter(text: str) -> None:
    assert parse_certificate(text).serial == "ab12"


@pytest.mark.parametrize("key", PRIVATE_KEYS)
def test_a_private_key_anywhere_is_refused_and_never_repeated(key: str) -> None:
    certificate = pem(LEAF)
    torn_end, torn_begin = key[: len(key) // 2], key[len(key) // 2 :]
    escaped, shouting = key.replace("\n", "\\n"), key.lower()
    for part in (key, torn_end, torn_begin, escaped, shouting):
        for text in (part, certificate + part, part + certificate):
            message = refusal(text, FaultCode.PRIVATE_KEY_REFUSED)
            assert "private key" in message
            assert not any(line in message for line in key.split("\n") if line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        pem(LEAF)[:200],
        pem(LEAF)[100:],
        pem(LEAF).replace("CERTIFICATE", "CERTIFICATE REQUEST"),
        pem(LEAF).replace("MII", "MIJ"),
        "�\x00",
    ],
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    assert refusal(text) == "the text is not a certificate in PEM form"


@pytest.mark.parametrize("filler", ["\n", "é"])
def test_what_is_too_large_is_refused(filler: str) -> None:
    size = len(filler.encode())
    room = MAX_PEM_BYTES - len(pem(LEAF))
    assert parse_certificate(pem(LEAF) + filler * (room // size)).serial == "ab12"
    assert "65536 bytes" in refusal(pem(LEAF) + filler * (room // size + 1), FaultCode.BODY_TOO_LARGE)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(LEAF.public_bytes(Encoding.DER)) - 1), st.binary(max_size=3))
def test_a_broken_certificate_is_read_or_refused(place: int, bytes_there: bytes) -> None:
    der = LEAF.public_bytes(Encoding.DER)
    broken = der[:place] + bytes_there + der[place + len(bytes_there) :]
    read_or_refuse(x509_pem(broken))


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refuse(text)
    read_or_refuse(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")


def x509_pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def read_or_refuse(text: str) -> None:
    with suppress(Fault):
        certificate = parse_certificate(text)
        assert certificate.not_before.utcoffset() == certificate.not_after.utcoffset() == timedelta(0)
