"""Targets as an operator writes them: what is accepted, and each refusal in one sentence."""

from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.events import EVENTS
from app.settings import Settings, SettingsError, load_settings
from tests.work.webhooks.authority import Authority
from tests.work.webhooks.conftest import SIGNING_SECRET, SecretFile
from tests.work.webhooks.samples import target

CLUSTER = """
[clusters.c1]
cvms = ["10.0.0.31"]
key_file = "{folder}/key"
known_hosts = "{folder}/key"
restart_agent = "manual"
"""
STANDARD = """
[webhooks.told]
url = "https://receiver.example/hook"
secret_files = ["{folder}/signing"]
"""
TABLE = """
[webhooks.told]
url = "https://example.service-now.com"
profile = "servicenow_table"
table = "change_request"
header = { name = "x-sn-apikey", value_file = "{folder}/key" }
"""
OAUTH = 'oauth = { token_url = "https://id.example/token", client_id = "ngt", client_secret_file = "{folder}/key" }\n'


@pytest.fixture
def folder(tmp_path: Path, secret_file: SecretFile) -> Path:
    secret_file("key", "a key")
    secret_file("signing", SIGNING_SECRET)
    return tmp_path


def load(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "ngt-renewal.toml"
    path.write_text(text.replace("{folder}", str(folder)))
    return load_settings(path, environ)


def faults(folder: Path, text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        load(folder, text, **environ)
    return tuple(fault.replace(str(folder), "{folder}") for fault in refused.value.faults)


def test_a_target_knows_its_name_and_is_told_of_everything_unless_said_otherwise(folder: Path) -> None:
    told = load(folder, STANDARD).webhooks["told"]
    assert (told.name, told.profile, told.callback_only, told.accepts_record) == ("told", "standard", False, False)
    assert all(told.wants(event, cluster) for event in EVENTS for cluster in ("c1", None))
    assert not told.record_is_valid("CHG0030123")


def test_a_target_of_a_table_is_told_only_when_a_request_names_it(folder: Path) -> None:
    told = load(folder, TABLE).webhooks["told"]
    assert (told.callback_only, told.accepts_record, told.needs_record) == (True, True, True)


def test_events_and_clusters_choose_what_a_target_is_told(folder: Path) -> None:
    chosen = 'events = ["ngt.renewal.s*", "webhook.test"]\nclusters = ["c1"]\n'
    told = load(folder, STANDARD + chosen + CLUSTER).webhooks["told"]
    assert told.wants("ngt.renewal.succeeded", "c1")
    assert told.wants("ngt.renewal.stranded", "c1")
    assert not told.wants("ngt.renewal.failed", "c1")
    assert not told.wants("ngt.renewal.succeeded", "c2")
    assert not told.wants("ngt.renewal.succeeded", None)


@pytest.mark.parametrize(
    "record", ["0123456789abcdef" * 2, "CHG0030123", "RITM0010001", "SCTASK0010001", "INC0010001", "REQ0010001"]
)
def test_a_record_is_a_sys_id_or_a_number(record: str) -> None:
    assert target(profile="servicenow_table", table="change_request").record_is_valid(record)
    assert target(profile="servicenow_import", staging_table="u_ngt").record_is_valid(record)


@pytest.mark.parametrize(
    "record",
    [
        "",
        "0123456789ABCDEF" * 2,
        "0" * 31,
        "0" * 33,
        "0" * 32 + "\n",
        "CHG123456",
        "CHG0030123\n",
        "chg0030123",
        "CHG003012\N{DEVANAGARI DIGIT THREE}",
        "PRB0030123",
    ],
)
def test_anything_else_is_no_record(record: str) -> None:
    assert not target(profile="servicenow_table", table="change_request").record_is_valid(record)


REFUSED = {
    "an unknown key": (STANDARD + "uri = 1", "`webhooks.told.uri` is not a setting; did you mean `url`?"),
    "an unknown key of a login": (
        TABLE.replace("value_file", "valuefile"),
        "`webhooks.told.header.value_file` is missing.",
        "`webhooks.told.header.valuefile` is not a setting; did you mean `value_file`?",
    ),
    "a name in the table": (
        STANDARD + 'name = "other"',
        "`webhooks` is refused: told has its name already, as `[webhooks.told]`: leave out `name`.",
    ),
    "a name that no request could give": (
        STANDARD.replace("told", "Told"),
        "`webhooks.Told.name` is refused: string should match pattern '^[a-z0-9][a-z0-9_-]{0,62}$' (it is 'Told').",
    ),
    "no url": (STANDARD.replace("url", "#"), "`webhooks.told.url` is missing."),
    "http": (
        STANDARD.replace("https", "http"),
        "`webhooks.told` is refused: `url` is not https; set `allow_http = true` where that is meant.",
    ),
    "a password in the url": (
        STANDARD.replace("receiver", "user:hidden@receiver"),
        "`webhooks.told.url` is refused: it must have no user, password or fragment; "
        "credentials have settings of their own.",
    ),
    "another scheme": (
        STANDARD.replace("https", "file"),
        "`webhooks.told.url` is refused: it must begin with https:// and a host.",
    ),
    "an address of this host": (
        STANDARD.replace("receiver.example", "[::1]:8080"),
        "`webhooks.told` is refused: `url` has an address of this host itself.",
    ),
    "a private address": (
        STANDARD.replace("receiver.example", "10.0.0.5"),
        "`webhooks.told` is refused: `url` has a private address that `allow_networks` does not list.",
    ),
    "a private address for tokens": (
        TABLE.replace("header =", "#") + OAUTH.replace("id.example", "169.254.169.254"),
        "`webhooks.told` is refused: `oauth.token_url` has the address of a metadata service.",
    ),
    "an unknown event": (
        STANDARD + 'events = ["ngt.renewal.suceeded"]',
        "`webhooks.told.events` is refused: there is no event 'ngt.renewal.suceeded'.",
    ),
    "an unknown cluster": (
        STANDARD + 'clusters = ["c2", "c1"]' + CLUSTER,
        "`webhooks.told.clusters` is refused: the cluster 'c2' is not configured.",
    ),
    "no secret": (
        STANDARD.replace("secret_files", "#"),
        "`webhooks.told` is refused: `standard` needs one secret in `secret_files`, or two while it is changed.",
    ),
    "two secrets for one signature": (
        STANDARD.replace('signing"', 'signing", "{folder}/key"') + 'profile = "github-hash"',
        "`webhooks.told` is refused: `github-hash` needs one secret in `secret_files`: "
        "its header has room for one signature.",
    ),
    "a secret that signs nothing": (
        TABLE + 'secret_files = ["{folder}/signing"]',
        "`webhooks.told` is refused: the profile `servicenow_table` signs nothing: leave out `secret_files`.",
    ),
    "no table": (
        TABLE.replace("table =", "#"),
        "`webhooks.told` is refused: `table` is needed for the profile `servicenow_table`.",
    ),
    "a table of another profile": (
        STANDARD + 'staging_table = "u_ngt"',
        "`webhooks.told` is refused: `staging_table` is only for the profile `servicenow_import`.",
    ),
    "a table that is a path": (
        TABLE.replace("change_request", "../sys_user"),
        "`webhooks.told.table` is refused: string should match pattern '^[a-z][a-z0-9_]{0,79}$' (it is '../sys_user').",
    ),
    "fields without a record": (
        STANDARD + 'fields = { u_a = "x" }',
        "`webhooks.told` is refused: the profile `standard` has no `fields`.",
    ),
    "an unknown fact": (
        TABLE + 'fields = { u_ngt_status = "{outcom}" }',
        "`webhooks.told.fields` is refused: the template of u_ngt_status names {outcom}, which is not a fact of any "
        "event.",
    ),
    "a fact that is looked into": (
        TABLE + 'fields = { u_a = "{outcome.__class__}" }',
        "`webhooks.told.fields` is refused: "
        "the template of u_a names {outcome.__class__}, which is not a fact of any event.",
    ),
    "a brace alone": (
        TABLE + 'fields = { u_a = "{outcome" }',
        "`webhooks.told.fields` is refused: the template of u_a has a brace without its other; write {{ for one.",
    ),
    "a table that everybody writes to": (
        TABLE + "callback_only = false",
        "`webhooks.told` is refused: `callback_only` cannot be false: only a request can name the record to write to.",
    ),
    "two logins": (
        TABLE + OAUTH,
        "`webhooks.told` is refused: keep one of `header`, `basic` and `oauth`.",
    ),
    "a credential in a header of the message": (
        TABLE.replace("x-sn-apikey", "Webhook-Id"),
        "`webhooks.told.header.name` is refused: this header is not for credentials (it is 'Webhook-Id').",
    ),
    "a missing secret": (
        STANDARD.replace("/signing", "/none"),
        "`webhooks.told.secret_files[0]` is refused: {folder}/none cannot be read: No such file or directory.",
    ),
    "a secret of another kind": (
        STANDARD.replace("/signing", "/key"),
        "`webhooks.told.secret_files[0]` is refused: {folder}/key holds no secret for signing: "
        "it is `whsec_` and 24 to 64 bytes in base64.",
    ),
    "an authority without a certificate": (
        STANDARD + 'ca_file = "{folder}/key"',
        "`webhooks.told.ca_file` is refused: {folder}/key holds no certificates in PEM.",
    ),
    "no authority at all": (
        STANDARD + 'ca_file = "{folder}/none"',
        "`webhooks.told.ca_file` is refused: {folder}/none cannot be read: No such file or directory.",
    ),
}


@pytest.mark.parametrize(("text", "sentences"), [(text, rest) for text, *rest in REFUSED.values()], ids=REFUSED.keys())
def test_a_target_is_refused_in_sentences(folder: Path, text: str, sentences: list[str]) -> None:
    assert list(faults(folder, text)) == sentences


@pytest.mark.parametrize("name", ["signing", "key"])
def test_a_secret_that_others_can_read_is_refused(folder: Path, name: str) -> None:
    (folder / name).chmod(0o644)
    text, setting = (STANDARD, "secret_files[0]") if name == "signing" else (TABLE, "header.value_file")
    path = f"{{folder}}/{name}"
    told = f"`webhooks.told.{setting}` is refused: {path} can be read by others; run `chmod 600 {path}`."
    assert faults(folder, text) == (told,)


@pytest.mark.parametrize("secret", ["", "two\nlines", "hid\x00den", "häider", "x" * 9000])
def test_what_cannot_stand_in_a_header_is_refused_and_not_shown(
    folder: Path, secret_file: SecretFile, secret: str
) -> None:
    secret_file("key", secret)
    (told,) = faults(folder, TABLE)
    assert told.startswith("`webhooks.told.header.value_file` is refused: {folder}/key ")
    assert not secret or secret not in told


@pytest.mark.parametrize(
    "secret", ["whsec_", "whsec_c2hvcnQ=", SIGNING_SECRET[6:], SIGNING_SECRET + "!", "whsec_" + "QUFB" * 30]
)
def test_a_signing_secret_has_the_form_and_length_of_the_standard(
    folder: Path, secret_file: SecretFile, secret: str
) -> None:
    secret_file("signing", secret)
    (told,) = faults(folder, STANDARD)
    assert "holds no secret for signing" in told


def test_a_file_of_certificates_is_accepted(folder: Path, authority: Authority) -> None:
    assert load(folder, STANDARD + f'ca_file = "{authority.ca_file}"').webhooks["told"].ca_file == authority.ca_file


def test_the_environment_sets_no_target(folder: Path) -> None:
    assert faults(folder, "", NGT_RENEWAL_WEBHOOKS__TOLD__URL="https://receiver.example") == (
        "The environment variable NGT_RENEWAL_WEBHOOKS__TOLD__URL is not read: webhooks belong in the TOML file.",
    )


def test_settings_hold_no_secret(folder: Path) -> None:
    text = STANDARD + TABLE.replace("told", "snow")
    settings = load(folder, text)
    assert SIGNING_SECRET not in repr(settings) + settings.model_dump_json()
    assert "a key" not in repr(settings)


@given(st.text(st.characters(max_codepoint=0x17F), max_size=30))
def test_every_url_that_is_accepted_can_be_sent_to(rest: str) -> None:
    try:
        told = target(url=f"https://{rest}")
    except ValidationError:
        return
    assert httpx.URL(told.url).host
