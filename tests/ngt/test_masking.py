"""No secret is shown, whole or cut, and nothing else is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ngt.masking import mask

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\nAgEAAoIBAQC7VJTUt9Us8cKj/MzEfYyjiWA4R4\n"
CERTIFICATE = f"-----BEGIN CERTIFICATE-----\n{BODY}-----END CERTIFICATE-----\n"
LABELS = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
HIDDEN = "hunter2Xyz"


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\\n", "\n  "])
def test_a_private_key_is_masked_and_the_certificate_beside_it_stays(label: str, line_end: str) -> None:
    key = f"-----BEGIN {label}-----\n{BODY}-----END {label}-----".replace("\n", line_end)
    assert mask(f"{CERTIFICATE}{key}\nafter") == f"{CERTIFICATE}[private key masked]\nafter"


@pytest.mark.parametrize("label", LABELS)
def test_a_private_key_that_is_cut_at_any_place_is_masked_as_far_as_it_is_there(label: str) -> None:
    key = f"-----BEGIN {label}-----\n{BODY}-----END {label}-----\n"
    body_begins = key.index("MII")
    for cut in range(body_begins + 8, len(key)):
        assert "MII" not in mask(f"before\n{key[:cut]}")
    for cut in range(body_begins, key.index("END")):
        shown = mask(f"{key[cut:]}after")
        assert shown == "[private key masked]\nafter"


@pytest.mark.parametrize(
    "text",
    [
        f"password={HIDDEN}",
        f"password = {HIDDEN}",
        f"Password: {HIDDEN}",
        f"admin_passwd='{HIDDEN} with blanks'",
        f'{{"newPassword": "{HIDDEN} with \\" and blanks", "user": "x"}}',
        f'{{\\"password\\": \\"{HIDDEN} and blanks\\"}}',
        f'password="{HIDDEN} left open',
        f"ncli user reset --password {HIDDEN} user=admin",
        f"sessionPasswd={HIDDEN}",
        f"client_secret={HIDDEN}",
        f"passphrase: {HIDDEN}",
        f"Authorization: Bearer {HIDDEN}",
        f"authorization: Basic {HIDDEN}==",
        f'"Authorization": "Basic {HIDDEN}"',
        f"X-API-Key: {HIDDEN}",
        f"bearer {HIDDEN}",
        f"the key ngtr_{HIDDEN}_{HIDDEN} was used",
        f"whsec_{HIDDEN}",
        f"postgresql://ngt:{HIDDEN}@db/ngt",
    ],
)
def test_a_secret_is_masked(text: str) -> None:
    assert HIDDEN not in mask(text)
    assert "***" in mask(text)
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "result_vec: kNoError\n",
        CERTIFICATE,
        "Basic authentication is off, the bearer is up\n",
        "Enter password: \nnext line",
        "http://10.0.0.1:9440/console a@b",
        "/usr/local/nutanix/ngt/config/client-key.pem",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


def test_what_stands_beside_a_masked_value_stays() -> None:
    assert mask('{"password": "a b", "user": "x"}') == '{"password": "***", "user": "x"}'
    assert mask("sessionPasswd=<null> context=0x7f") == "sessionPasswd=*** context=0x7f"


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            ["password=", "'", '"', "\\", "\n", " ", "ngtr_a", "://u:p@", "Bearer ", "-----END PRIVATE KEY"]
        )
        | st.sampled_from(["-----BEGIN PRIVATE KEY", "Authorization: ", BODY])
        | st.text(max_size=4),
        max_size=20,
    ).map("".join)
)
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    "hostile",
    [
        "-",
        "BEGIN PRIVATE KEY",
        "END PRIVATE KEY\n",
        "BEGIN ",
        "password=",
        "password='",
        "://a:",
        "AAAA\n",
        '\\"',
        "\\",
        " ",
        "passw",
        "authorization",
        "bearer ",
        "A",
    ],
)
def test_no_text_takes_longer_than_a_test_may(hostile: str) -> None:
    mask(hostile * (200_000 // len(hostile)))
