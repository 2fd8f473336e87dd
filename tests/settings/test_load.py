"""The configuration: what is read from where, and each refusal in one sentence."""

from pathlib import Path

import pytest

from app.ngt.errors import Fault
from app.ngt.tools.command_lines import Tools
from app.settings import ClusterSettings, Settings, SettingsError, load_settings, split_address

AN_OPERATORS_FILE = """
[clusters.c1]
cvms = ["10.0.0.31", "10.0.0.32"]
username = "nutanix"
key_file = "{folder}/cvm_key"
known_hosts = "{folder}/known_hosts"
mode = "recreate"
restart_agent = "ssh"
accept_unverified = false
max_running = 3
sessions_per_connection = 4
[clusters.c1.commands]
[[clusters.c1.guests]]
match = {{ names = ["web-*"], os = "linux" }}
addresses = ["10.1.0.0/16"]
username = "ngt"
key_file = "{folder}/guest_key"
known_hosts = "{folder}/known_hosts"
restart_command = "sudo systemctl restart ngt_guest_agent"
read_certificate = "sudo cat /usr/local/nutanix/ngt/config/client-cert.pem"
read_config = "sudo cat /usr/local/nutanix/ngt/config/ngt_config.json"
"""

MANUAL = """
[clusters.c1]
cvms = ["10.0.0.31"]
key_file = "{folder}/cvm_key"
known_hosts = "{folder}/known_hosts"
restart_agent = "manual"
"""

WINDOWS = """
[clusters.c1]
cvms = ["10.0.0.31"]
key_file = "{folder}/cvm_key"
known_hosts = "{folder}/known_hosts"
[[clusters.c1.guests]]
match = {{ os = "windows" }}
addresses = ["10.1.0.0/16"]
username = "ngt"
key_file = "{folder}/guest_key"
known_hosts = "{folder}/known_hosts"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cvm_key", "guest_key", "known_hosts"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "ngt-renewal.toml"
    path.write_text(text.replace("{folder}", str(folder)).replace("{{", "{").replace("}}", "}"))
    return path


def load(folder: Path, text: str = "", **environ: str) -> Settings:
    return load_settings(write(folder, text), environ)


def faults(folder: Path, text: str = "", **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        load(folder, text, **environ)
    assert str(refused.value) == "\n".join(refused.value.faults)
    return tuple(fault.replace(str(folder), "{folder}") for fault in refused.value.faults)


def cluster(folder: Path, text: str) -> ClusterSettings:
    return load(folder, text).cluster("c1")


def test_an_operators_file_is_accepted(folder: Path) -> None:
    accepted = cluster(folder, AN_OPERATORS_FILE)
    assert accepted.cvms == ("10.0.0.31", "10.0.0.32")
    assert accepted.guests[0].match.names == ("web-*",)
    assert accepted.prove_first
    assert Tools(**accepted.commands.overrides()) == Tools()


def test_nothing_needs_to_be_set(folder: Path) -> None:
    settings = load(folder)
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.database_url is None
    assert list(settings.limits.guest_read_delays_s) == [5, 30, 60, 120, 300, 600]
    assert not settings.clusters


def test_the_environment_wins_over_the_file(folder: Path) -> None:
    settings = load(
        folder,
        "port = 1\nlog_format = 'text'\n[limits]\nlease_s = 7\nretry_first_s = 2",
        NGT_RENEWAL_PORT="8081",
        NGT_RENEWAL_LIMITS__LEASE_S="1.5",
        NGT_RENEWAL_LIMITS__GUEST_READ_DELAYS_S="1,2.5",
        NGT_RENEWAL_LOG_LEVEL="",
        PUBLIC_URL="https://renewal.example",
        PATH="/bin",
    )
    assert settings.port == 8081
    assert settings.log_format == "text"
    assert settings.log_level == "info"
    assert (settings.limits.lease_s, settings.limits.retry_first_s) == (1.5, 2)
    assert list(settings.limits.guest_read_delays_s) == [1, 2.5]
    assert settings.public_url == "https://renewal.example"


def test_the_file_is_the_one_that_is_named_else_the_one_of_the_environment(folder: Path) -> None:
    path = write(folder, "port = 1")
    other = folder / "other.toml"
    other.write_text("port = 2")
    environ = {"NGT_RENEWAL_CONFIG": str(other)}
    assert load_settings(path, environ).port == 1
    assert load_settings(None, environ).port == 2


def test_a_file_in_the_working_directory_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "port = 3")
    monkeypatch.chdir(folder)
    assert load_settings(None, {}).port == 3


@pytest.mark.parametrize("name", ["DATABASE_URL_FILE", "NGT_RENEWAL_DATABASE_URL_FILE"])
def test_a_secret_is_read_from_the_file_that_a_variable_names(folder: Path, name: str) -> None:
    (folder / "url").write_text("postgresql://ngt:hidden@db/ngt\n")
    settings = load(folder, **{name: str(folder / "url")})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://ngt:hidden@db/ngt"
    assert "hidden" not in repr(settings)


def test_a_refused_secret_is_not_shown(folder: Path) -> None:
    assert faults(folder, DATABASE_URL="mysql://ngt:hidden@db/ngt") == (
        "`database_url` is refused: it must begin with postgresql://.",
    )


ENVIRONMENTS = {
    "an unknown variable": (
        {"NGT_RENEWAL_PROT": "1"},
        "The environment variable NGT_RENEWAL_PROT is not a setting; did you mean NGT_RENEWAL_PORT?",
    ),
    "an unknown limit": (
        {"NGT_RENEWAL_LIMITS__LEASE": "1"},
        "The environment variable NGT_RENEWAL_LIMITS__LEASE is not a setting; "
        "did you mean NGT_RENEWAL_LIMITS__LEASE_S?",
    ),
    "a variable like no other": (
        {"NGT_RENEWAL_XYZZY": "1"},
        "The environment variable NGT_RENEWAL_XYZZY is not a setting.",
    ),
    "a table as one variable": (
        {"NGT_RENEWAL_LIMITS": "1"},
        "The environment variable NGT_RENEWAL_LIMITS is not a setting.",
    ),
    "a cluster": (
        {"NGT_RENEWAL_CLUSTERS__C1__CVMS": "10.0.0.31"},
        "The environment variable NGT_RENEWAL_CLUSTERS__C1__CVMS is not read: clusters belong in the TOML file.",
    ),
    "one setting twice": (
        {"DATABASE_URL": "postgresql:///a", "NGT_RENEWAL_DATABASE_URL": "postgresql:///b"},
        "NGT_RENEWAL_DATABASE_URL and DATABASE_URL both set `database_url`: keep one of them.",
    ),
    "a secret in no file": (
        {"DATABASE_URL_FILE": "{folder}/none"},
        "The file {folder}/none that DATABASE_URL_FILE names cannot be read: No such file or directory.",
    ),
    "a word for a number": (
        {"NGT_RENEWAL_PORT": "http"},
        "`port` is refused: input should be a valid integer, unable to parse string as an integer (it is 'http').",
    ),
}


@pytest.mark.parametrize(("environ", "sentence"), ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_a_variable_is_refused(folder: Path, environ: dict[str, str], sentence: str) -> None:
    given = {name: text.replace("{folder}", str(folder)) for name, text in environ.items()}
    assert faults(folder, **given) == (sentence,)


TEXTS = {
    "an unknown key": ("prot = 1", "`prot` is not a setting; did you mean `port`?"),
    "an unknown limit": ("[limits]\nlease = 1", "`limits.lease` is not a setting; did you mean `lease_s`?"),
    "an unknown key of a cluster": (
        MANUAL + "user = 'x'",
        "`clusters.c1.user` is not a setting; did you mean `username`?",
    ),
    "an unknown command": (
        MANUAL + "commands = { remount = 'x' }",
        "`clusters.c1.commands.remount` is not a setting; did you mean `mount`?",
    ),
    "an unknown key of a guest": (
        AN_OPERATORS_FILE + "adresses = []",
        "`clusters.c1.guests[0].adresses` is not a setting; did you mean `addresses`?",
    ),
    "an unknown key of a match": (
        AN_OPERATORS_FILE.replace("os =", "system ="),
        "`clusters.c1.guests[0].match.system` is not a setting.",
    ),
    "a missing key": (MANUAL.replace("known_hosts", "#"), "`clusters.c1.known_hosts` is missing."),
    "guests without addresses": (
        AN_OPERATORS_FILE.replace("addresses", "#"),
        "`clusters.c1.guests[0].addresses` is missing.",
    ),
    "guests with no address": (
        AN_OPERATORS_FILE.replace('["10.1.0.0/16"]', "[]"),
        "`clusters.c1.guests[0].addresses` is refused: at least one is needed.",
    ),
    "a network with an address in it": (
        AN_OPERATORS_FILE.replace("10.1.0.0/16", "10.1.0.7/16"),
        "`clusters.c1.guests[0].addresses[0]` is refused: value is not a valid IPv4 or IPv6 network "
        "(it is '10.1.0.7/16').",
    ),
    "a missing file": (
        MANUAL.replace("cvm_key", "no_key"),
        "`clusters.c1.key_file` is refused: {folder}/no_key cannot be read: No such file or directory.",
    ),
    "a folder as a file": (
        MANUAL.replace("/known_hosts", ""),
        "`clusters.c1.known_hosts` is refused: {folder} cannot be read: Is a directory.",
    ),
    "a missing file of a guest": (
        AN_OPERATORS_FILE.replace("guest_key", "no_key"),
        "`clusters.c1.guests[0].key_file` is refused: {folder}/no_key cannot be read: No such file or directory.",
    ),
    "a CVM twice": (
        MANUAL.replace('["10.0.0.31"]', '["10.0.0.31", "10.0.0.31:22"]'),
        "The CVM 10.0.0.31:22 is listed twice in the cluster c1.",
    ),
    "a CVM of two clusters": (
        MANUAL + MANUAL.replace("c1", "c2"),
        "The CVM 10.0.0.31 is listed in the clusters c1 and c2: a CVM belongs to one cluster.",
    ),
    "no CVM": (
        MANUAL.replace('"10.0.0.31"', ""),
        "`clusters.c1.cvms` is refused: at least one is needed.",
    ),
    "a CVM that is no address": (
        MANUAL.replace("10.0.0.31", "10.0.0.31 -oProxyCommand=x"),
        "`clusters.c1.cvms` is refused: '10.0.0.31 -oProxyCommand=x' is not an address "
        "such as 10.0.0.31 or 10.0.0.31:2222.",
    ),
    "agents that nothing restarts": (
        MANUAL.replace("manual", "ssh"),
        "Nothing could restart the agents of the cluster c1: add a `guests` table with SSH access to its guests, "
        'or set `restart_agent = "manual"`.',
    ),
    "the name of a cluster": (
        MANUAL.replace("c1", "C1"),
        "The cluster name 'C1' is refused: use 1 to 63 of a-z, 0-9 and hyphen, and no hyphen first.",
    ),
    "an unknown mode": (
        MANUAL + "mode = 'delete'",
        "`clusters.c1.mode` is refused: input should be 'recreate' or 'refresh' (it is 'delete').",
    ),
    "a time of nothing": (
        "[limits]\nlease_s = 0",
        "`limits.lease_s` is refused: input should be greater than 0 (it is 0).",
    ),
    "a back-off that shrinks": (
        "[limits]\nretry_first_s = 301",
        "`limits.retry_first_s` is longer than `limits.retry_last_s`.",
    ),
    "a refresh of the whole cluster": (
        MANUAL + "commands = { refresh = 'nutanix_guest_tools_cli refresh_vm_tools_entity' }",
        "`clusters.c1.commands.refresh` is refused: it must contain {vm_uuid}, "
        "or it could act on more than was requested (it is 'nutanix_guest_tools_cli refresh_vm_tools_entity').",
    ),
    "an unknown placeholder": (
        MANUAL + "commands = { mount = 'mount {vm_uuid} {uuid}' }",
        "`clusters.c1.commands.mount` is refused: {uuid} is not a placeholder of this command "
        "(it is 'mount {vm_uuid} {uuid}').",
    ),
    "a command of two lines": (
        MANUAL + 'commands = { query = "a\\nb" }',
        "`clusters.c1.commands.query` is refused: it must be one line of printable text (it is 'a\\nb').",
    ),
    "a profile that is a command": (
        MANUAL + "commands = { profile = '/etc/profile; reboot' }",
        "`clusters.c1.commands.profile` is refused: it must be the absolute path of a file on the CVM "
        "(it is '/etc/profile; reboot').",
    ),
    "a guest command that reads the private key": (
        AN_OPERATORS_FILE.replace("client-cert.pem", "Client-Key.pem"),
        "`clusters.c1.guests[0].read_certificate` is refused: no command may name client-key.pem: "
        "the private key is never read (it is 'sudo cat /usr/local/nutanix/ngt/config/Client-Key.pem').",
    ),
    "a public URL without a scheme": (
        "public_url = 'renewal.example'",
        "`public_url` is refused: string should match pattern '^https?://[^/\\s?#]+(/[^\\s?#]*)?$' "
        "(it is 'renewal.example').",
    ),
    "no TOML": (
        "port",
        "The configuration file {folder}/ngt-renewal.toml is not valid TOML in UTF-8: "
        "Expected '=' after a key in a key/value pair (at end of document).",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), TEXTS.values(), ids=TEXTS.keys())
def test_a_file_is_refused_in_one_sentence(folder: Path, text: str, sentence: str) -> None:
    assert faults(folder, text) == (sentence,)


def test_a_file_that_is_named_must_exist(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file or directory\.$"):
        load_settings(folder / "none.toml", {})


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_file_that_others_can_read_is_refused(folder: Path, mode: int) -> None:
    (folder / "cvm_key").chmod(mode)
    assert faults(folder, MANUAL) == (
        "`clusters.c1.key_file` is refused: {folder}/cvm_key can be read by others; run `chmod 600 {folder}/cvm_key`.",
    )


def test_all_faults_are_told_at_once(folder: Path) -> None:
    told = faults(
        folder,
        "prot = 1\n[limits]\nlease_s = -1"
        + MANUAL.replace("cvm_key", "no_key").replace("manual", "never")
        + MANUAL.replace("c1", "c2").replace("known_hosts =", "#").replace("manual", "ssh"),
        NGT_RENEWAL_HSOT="::",
    )
    assert [fault.split(" ")[0] for fault in told] == [
        "The",
        "`limits.lease_s`",
        "`clusters.c1.restart_agent`",
        "`clusters.c2.known_hosts`",
        "`prot`",
    ]


def test_contradictions_and_files_are_reported_when_each_value_is_valid(folder: Path) -> None:
    told = faults(
        folder,
        MANUAL.replace("cvm_key", "no_key") + MANUAL.replace("c1", "c2").replace("manual", "ssh"),
        NGT_RENEWAL_HSOT="::",
    )
    assert [fault.split(" ")[0] for fault in told] == ["The", "The", "Nothing", "`clusters.c1.key_file`"]


def test_settings_never_change(folder: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load(folder), "port", 1)  # noqa: B010 - A plain assignment is what mypy already refuses.


def test_an_unknown_cluster_is_a_fault(folder: Path) -> None:
    with pytest.raises(Fault, match="The cluster 'c9' is not configured"):
        load(folder).cluster("c9")


def test_a_tools_command_can_be_replaced(folder: Path) -> None:
    commands = cluster(folder, MANUAL + "commands = { mount = 'ncli ngt mount vm-id={vm_uuid}' }").commands
    assert Tools(**commands.overrides()) == Tools(mount="ncli ngt mount vm-id={vm_uuid}")


def test_every_command_of_the_tools_can_be_replaced() -> None:
    assert set(ClusterSettings.model_fields["commands"].default.model_dump()) == set(Tools.__slots__)


def test_windows_guests_have_commands_of_their_own(folder: Path) -> None:
    guest = cluster(folder, WINDOWS).guests[0]
    assert guest.read_certificate == r'type "C:\Program Files\Nutanix\config\client-cert.pem"'
    assert "Restart-Service" in guest.restart_command


def test_the_first_guests_table_that_has_a_name_and_an_address_is_taken(folder: Path) -> None:
    guests = cluster(folder, AN_OPERATORS_FILE + WINDOWS[WINDOWS.index("[[") :].replace("10.1.", "10.2."))
    first, second = guests.guests
    assert guests.guest_for("web-1", ("169.254.1.1", "not an address", "10.1.0.4", "10.1.0.5")) == (first, "10.1.0.4")
    assert guests.guest_for("web-1", ("10.2.0.4",)) == (second, "10.2.0.4")
    assert guests.guest_for("db-1", ("10.1.0.4", "10.2.0.4")) == (second, "10.2.0.4")
    assert guests.guest_for("WEB-1", ("10.1.0.4",)) is None
    assert guests.guest_for("web-1", ()) is None


@pytest.mark.parametrize(
    ("networks", "address", "taken"),
    [
        ('["0.0.0.0/0", "::/0"]', "10.9.9.9", True),
        ('["0.0.0.0/0", "::/0"]', "fd00::1", True),
        ('["0.0.0.0/0", "::/0"]', "169.254.10.1", False),
        ('["169.254.0.0/16"]', "169.254.10.1", False),
        ('["0.0.0.0/0", "::/0"]', "fe80::1", False),
        ('["0.0.0.0/0", "::/0"]', "127.0.0.1", False),
        ('["0.0.0.0/0", "::/0"]', "::1", False),
        ('["127.0.0.0/8"]', "127.0.0.1", True),
        ('["127.0.0.2/32"]', "127.0.0.1", False),
    ],
)
def test_an_address_is_used_only_where_it_is_meant(folder: Path, networks: str, address: str, taken: bool) -> None:
    guests = cluster(folder, WINDOWS.replace('["10.1.0.0/16"]', networks))
    assert (guests.guest_for("any", (address,)) is not None) is taken


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.31", ("10.0.0.31", 22)),
        ("10.0.0.31:2222", ("10.0.0.31", 2222)),
        ("CVM-1.example", ("cvm-1.example", 22)),
        ("fd00::31", ("fd00::31", 22)),
        ("[fd00::31]", ("fd00::31", 22)),
        ("[FD00:0::31]:2222", ("fd00::31", 2222)),
    ],
)
def test_a_cvms_address_may_have_a_port(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "-x", "a b", "10.0.0.31:0", "10.0.0.31:65536", "10.0.0.31:ssh", "[::zz]", "::1:x"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_address(text)


def test_retention_and_the_queue_are_set_in_the_file_and_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "ngt-renewal.toml"
    path.write_text("[retention]\njobs_days = 30\n\n[callers]\nmax_queued_jobs = 50\n")
    settings = load_settings(path, {"NGT_RENEWAL_RETENTION__DELIVERIES_DAYS": "3"})
    kept = settings.retention
    assert (kept.jobs_days, kept.idempotency_days, kept.deliveries_days) == (30, 7, 3)
    assert settings.callers.max_queued_jobs == 50


def test_nothing_can_be_kept_for_less_than_a_day(tmp_path: Path) -> None:
    path = tmp_path / "ngt-renewal.toml"
    path.write_text("[retention]\njobs_days = 0\njob_days = 4\n")
    with pytest.raises(SettingsError) as refused:
        load_settings(path, {"NGT_RENEWAL_RETENTION__JOB_DAYS": "4"})
    text = str(refused.value)
    assert "`retention.jobs_days` is refused" in text
    assert "`retention.job_days` is not a setting; did you mean `jobs_days`?" in text
    assert "did you mean NGT_RENEWAL_RETENTION__JOBS_DAYS?" in text
