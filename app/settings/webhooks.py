"""The targets of webhooks as an operator configures them: their URL, their form and their secrets.

A request may name a target and a record of it; everything else is here, so a caller cannot make the service write
elsewhere with credentials that are not the caller's own.
"""

import fnmatch
import ipaddress
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, IPvAnyNetwork, model_validator

from app.events import EVENTS, TEMPLATE_FACTS, import_facts
from app.settings.allowed_addresses import IpNetwork, refusal
from app.settings.table import Table
from app.settings.value_types import Seconds

Profile = Literal["standard", "github-hash", "servicenow_table", "servicenow_import"]


_SECRETS_NEEDED: dict[str, tuple[int, ...]] = {"standard": (1, 2), "github-hash": (1,)}
_SECRETS_SENTENCES = {
    "standard": "`standard` needs one secret in `secret_files`, or two while it is changed",
    "github-hash": "`github-hash` needs one secret in `secret_files`: its header has room for one signature",
}
_OF_PROFILE = {"table": "servicenow_table", "staging_table": "servicenow_import"}

_SYS_ID = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"(?:CHG|RITM|SCTASK|INC|REQ)[0-9]{7,20}")
_COLUMN = r"^[a-z][a-z0-9_]{0,79}$"
_HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
# Headers that say how a request is read; a credential in one of them would change what is sent.
_NO_CREDENTIALS_IN = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "accept"}
)

Column = Annotated[str, Field(pattern=_COLUMN)]


def is_sys_id(record: str) -> bool:
    """True for the `sys_id` of a record of ServiceNow, false for a number such as CHG0030123."""
    return _SYS_ID.fullmatch(record) is not None


def _validate_url(url: str) -> str:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("it must be a URL of printable ASCII without blanks")
    parts = _split(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("it must begin with https:// and a host")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("it must have no user, password or fragment; credentials have settings of their own")
    return url


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    # Reading the port is what checks it.
    if parts.port == 0:
        raise ValueError("it must have a port above 0")
    return parts


def _validate_templates(fields: Mapping[str, str]) -> Mapping[str, str]:
    for field, template in fields.items():
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError:
            raise ValueError(f"the template of {field} has a brace without its other; write {{{{ for one") from None
        for _, name, form, conversion in parsed:
            if name is not None and (name not in TEMPLATE_FACTS or form or conversion):
                raise ValueError(f"the template of {field} names {{{name}}}, which is not a fact of any event")
    return fields


def _validate_event_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        if not fnmatch.filter(EVENTS, pattern):
            raise ValueError(f"there is no event {pattern!r}")
    return patterns


def _validate_credentials_header(name: str) -> str:
    if name.lower() in _NO_CREDENTIALS_IN or name.lower().startswith("webhook-"):
        raise ValueError("this header is not for credentials")
    return name


class HeaderAuth(Table):
    """A header whose value is a secret, such as ServiceNow's `x-sn-apikey`."""

    name: Annotated[str, Field(pattern=_HEADER), AfterValidator(_validate_credentials_header)]
    value_file: Path


class BasicAuth(Table):
    """HTTP Basic."""

    username: Annotated[str, Field(min_length=1, pattern=r"^[^:\x00-\x1f\x7f]+$")]
    password_file: Path


class OAuthAuth(Table):
    """OAuth 2 client credentials; the token is asked for with the client's secret in the body."""

    token_url: Annotated[str, AfterValidator(_validate_url)]
    client_id: Annotated[str, Field(min_length=1)]
    client_secret_file: Path
    scope: str | None = None


class WebhookTarget(Table):
    """`[webhooks.<name>]`: `name` is that of the table. It names the files of its secrets, never the secrets.

    `events` and `clusters` select its events, empty for all; `callback_only`: only when a request names it.
    `timeout_s` bounds a whole attempt.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    url: Annotated[str, AfterValidator(_validate_url)]
    profile: Profile = "standard"
    events: Annotated[tuple[str, ...], AfterValidator(_validate_event_patterns)] = ()
    clusters: tuple[str, ...] = ()
    callback_only: bool = False
    secret_files: tuple[Path, ...] = ()
    header: HeaderAuth | None = None
    basic: BasicAuth | None = None
    oauth: OAuthAuth | None = None
    table: Column | None = None
    staging_table: Column | None = None
    fields: Annotated[Mapping[Column, str], AfterValidator(_validate_templates)] = Field(default_factory=dict)
    timeout_s: Seconds = 15
    allow_http: bool = False
    allow_networks: tuple[IPvAnyNetwork, ...] = ()
    ca_file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_a_request_can_name_a_record(cls, table: object) -> object:
        if isinstance(table, dict) and table.get("profile") == "servicenow_table":
            return {"callback_only": True, **table}
        return table

    @model_validator(mode="after")
    def _fits_together(self) -> "WebhookTarget":
        for fault in (self._fault_of_profile(), self._fault_of_urls()):
            if fault is not None:
                raise ValueError(fault)
        return self

    @property
    def accepts_record(self) -> bool:
        """True when a request may name a record of this target."""
        return self.profile in {"servicenow_table", "servicenow_import"}

    @property
    def needs_record(self) -> bool:
        """True when every event but a test needs a record."""
        return self.profile == "servicenow_table"

    def record_is_valid(self, record: str) -> bool:
        """A `sys_id` of 32 hex digits, or a number such as CHG0030123; whether there is such a record is not asked."""
        return self.accepts_record and (is_sys_id(record) or _NUMBER.fullmatch(record) is not None)

    def wants(self, event: str, cluster: str | None) -> bool:
        """True when it receives such an event; `cluster` None: the VM was not found on any cluster."""
        patterns, clusters = self.events or ("*",), self.clusters
        return any(fnmatch.fnmatchcase(event, pattern) for pattern in patterns) and (
            not clusters or cluster in clusters
        )

    def templates(self, event: str) -> dict[str, str]:
        """The template of each field for the event: those of the profile, replaced by the configured ones.

        A field with an empty template is not written.
        """
        return {
            field: template
            for field, template in ({**_fields_of_profile(self.profile, event), **self.fields}).items()
            if template
        }

    def urls(self) -> dict[str, str]:
        """Everything that is connected to, by the setting that names it."""
        token = {} if self.oauth is None else {"oauth.token_url": self.oauth.token_url}
        return {"url": self.url, **token}

    def secret_paths(self) -> dict[str, Path]:
        """The files of all secrets, by the settings that name them."""
        paths = {f"secret_files[{number}]": path for number, path in enumerate(self.secret_files)}
        if self.header is not None:
            paths["header.value_file"] = self.header.value_file
        if self.basic is not None:
            paths["basic.password_file"] = self.basic.password_file
        if self.oauth is not None:
            paths["oauth.client_secret_file"] = self.oauth.client_secret_file
        return paths

    def _fault_of_profile(self) -> str | None:
        for key, profile in _OF_PROFILE.items():
            if (getattr(self, key) is None) is (self.profile == profile):
                needs = "is needed for" if self.profile == profile else "is only for"
                return f"`{key}` {needs} the profile `{profile}`"
        if len(self.secret_files) not in _SECRETS_NEEDED.get(self.profile, (0,)):
            return _SECRETS_SENTENCES.get(
                self.profile, f"the profile `{self.profile}` signs nothing: leave out `secret_files`"
            )
        if self.fields and not self.accepts_record:
            return f"the profile `{self.profile}` has no `fields`"
        if self.needs_record and not self.callback_only:
            return "`callback_only` cannot be false: only a request can name the record to write to"
        if [self.header, self.basic, self.oauth].count(None) < 2:  # noqa: PLR2004 - All but one of three.
            return "keep one of `header`, `basic` and `oauth`"
        return None

    def _fault_of_urls(self) -> str | None:
        for key, url in self.urls().items():
            parts = urlsplit(url)
            if parts.scheme == "http" and not self.allow_http:
                return f"`{key}` is not https; set `allow_http = true` where that is meant"
            if key == "url" and self.accepts_record and parts.query:
                return "`url` is the instance's own address, without a query"
            if (why := _refusal_of_literal(parts.hostname or "", self.allow_networks)) is not None:
                return f"`{key}` has {why}"
        return None


def _fields_of_profile(profile: Profile, event: str) -> dict[str, str]:
    """The fields that a profile writes of an event unless the configuration says otherwise."""
    match profile:
        case "servicenow_table":
            return {"work_notes": "{work_notes}"}
        case "servicenow_import":
            return {f"u_{fact}": f"{{{fact}}}" for fact in sorted(import_facts(event))}
        case _:
            return {}


def _refusal_of_literal(host: str, allowed: tuple[IpNetwork, ...]) -> str | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return refusal(ip, allowed)
