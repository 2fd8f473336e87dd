"""A ServiceNow instance as far as this service meets it: what it checks, the real one checks too.

Table API: an existing record only, unknown fields are ignored, an unknown column in a query too (so that every record
fits). Import Set API: flat strings only. Log in by `x-sn-apikey`, Basic, or a token of OAuth client credentials.
"""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from tests.work.webhooks.http_server import Answer, HttpServer, Received

API_KEY = "now_api_key_0123456789"
USER, PASSWORD = "ngt.renewal", "a pass-word: with a colon"
CLIENT_ID, CLIENT_SECRET = "ngt-client", "client-secret&with=signs"
TABLE, STAGING_TABLE = "change_request", "u_ngt_renewal"
COLUMNS = frozenset({"number", "state", "work_notes", "comments", "correlation_id", "u_ngt_status", "u_valid_until"})
# Fields whose every value is an entry of its own.
_JOURNAL = frozenset({"work_notes", "comments"})
# The real one sets cookies, and a client that sends them back stays in the session of another login.
_COOKIE = {"Set-Cookie": "JSESSIONID=0123456789ABCDEF; Path=/; HttpOnly"}

Row = dict[str, Any]


@dataclass(slots=True)
class Record:
    """A record of a table: its fields, and the entries of its journals, oldest first."""

    fields: dict[str, str]
    journal: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in sorted(_JOURNAL)})


class ServiceNow:
    """What stands in the instance, and `http`: what it received, and how to make it answer otherwise."""

    def __init__(self) -> None:
        self.http = HttpServer(self._respond)
        self.tables: dict[str, dict[str, Record]] = {TABLE: {}, "incident": {}, "sys_user_preference": {}}
        self.columns = {TABLE: COLUMNS, "incident": COLUMNS, "sys_user_preference": COLUMNS - {"number"}}
        self.staged: dict[str, list[dict[str, str]]] = {STAGING_TABLE: []}
        self.transform_status = "inserted"
        self.token_lifetime_s = 1800.0
        self.tokens_given = 0
        self._tokens: dict[str, float] = {}

    @property
    def url(self) -> str:
        return self.http.url

    @property
    def api_requests(self) -> list[Received]:
        """What was received, without the requests for tokens."""
        return [request for request in self.http.received if request.path != "/oauth_token.do"]

    def add_record(self, number: str = "", table: str = TABLE) -> str:
        """The `sys_id` of a new record."""
        sys_id = uuid4().hex
        self.tables[table][sys_id] = Record({"number": number} if number else {})
        return sys_id

    def record(self, sys_id: str, table: str = TABLE) -> Record:
        return self.tables[table][sys_id]

    def withdraw_tokens(self) -> None:
        """Every token that was given is refused from now on."""
        self._tokens.clear()

    def _respond(self, request: Received) -> Answer:
        if request.path == "/oauth_token.do":
            return self._give_token(request)
        if not self._is_logged_in(request.headers):
            refused = _error(401, "User Not Authenticated", "Required to provide Auth information")
            return Answer(401, refused.body, {**refused.headers, "WWW-Authenticate": 'Basic realm="Service-now"'})
        match [request.method, *request.path.strip("/").split("/")]:
            case ["PATCH", "api", "now", "table", table, sys_id]:
                return self._change(request, table, sys_id)
            case ["GET", "api", "now", "table", table]:
                return self._find(request, table)
            case ["POST", "api", "now", "import", staging_table]:
                return self._stage(request, staging_table)
            case _:
                return _error(400, "Requested URI does not represent any resource", request.path)

    def _change(self, request: Received, table: str, sys_id: str) -> Answer:
        if table not in self.tables:
            return _error(400, f"Invalid table {table}", None)
        record = self.tables[table].get(sys_id)
        if record is None:
            return _error(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")
        given = _object(request.body)
        if given is None:
            return _error(400, "Exception while reading request", "The payload is not valid JSON")
        for name, value in given.items():
            if name in _JOURNAL and value != "":
                record.journal[name].append(str(value))
            elif name in self.columns[table] - _JOURNAL:
                record.fields[name] = str(value)
        return _result(200, _shown(sys_id, record, request))

    def _find(self, request: Received, table: str) -> Answer:
        if table not in self.tables:
            return _error(400, f"Invalid table {table}", None)
        column, _, wanted = request.query.get("sysparm_query", "").partition("=")
        found = [
            _shown(sys_id, record, request)
            for sys_id, record in self.tables[table].items()
            if column not in self.columns[table] or record.fields.get(column) == wanted
        ]
        return _result(200, found[: int(request.query.get("sysparm_limit", "10000"))])

    def _stage(self, request: Received, staging_table: str) -> Answer:
        if staging_table not in self.staged:
            return _error(400, f"Invalid staging table {staging_table}", None)
        row = _object(request.body)
        if row is None or not all(isinstance(value, str) for value in row.values()):
            return _error(400, "Invalid payload", "Only name-value pairs of strings are taken")
        self.staged[staging_table].append(row)
        status = {"status": self.transform_status, "transform_map": "NGT renewals", "table": "u_ngt"}
        made = {"error_message": "a script failed"} if self.transform_status == "error" else {"sys_id": uuid4().hex}
        whole = {"import_set": "ISET0010001", "staging_table": staging_table, "result": [status | made]}
        return Answer.json(201, whole, **_COOKIE)

    def _give_token(self, request: Received) -> Answer:
        form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        is_known = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        if request.method != "POST" or form.get("grant_type") != "client_credentials" or not is_known:
            return Answer.json(401, {"error": "server_error", "error_description": "access_denied"}, **_COOKIE)
        token = f"token-{uuid4().hex}"
        self._tokens[token] = time.monotonic() + self.token_lifetime_s
        self.tokens_given += 1
        lifetime_s = int(self.token_lifetime_s)
        given = {"access_token": token, "scope": "useraccount", "token_type": "Bearer", "expires_in": lifetime_s}
        return Answer.json(200, given, **_COOKIE)

    def _is_logged_in(self, headers: dict[str, str]) -> bool:
        kind, _, credential = headers.get("authorization", "").partition(" ")
        match kind:
            case "Basic":
                return base64.b64decode(credential).decode() == f"{USER}:{PASSWORD}"
            case "Bearer":
                return time.monotonic() < self._tokens.get(credential, 0.0)
            case _:
                return headers.get("x-sn-apikey") == API_KEY


@contextmanager
def running_servicenow() -> Iterator[ServiceNow]:
    instance = ServiceNow()
    with instance.http.running():
        yield instance


def _shown(sys_id: str, record: Record, request: Received) -> Row:
    """A record as the Table API shows it: journals are empty there."""
    whole = {**record.fields, **dict.fromkeys(_JOURNAL, ""), "sys_id": sys_id}
    asked = request.query.get("sysparm_fields")
    return whole if asked is None else {name: whole[name] for name in asked.split(",") if name in whole}


def _object(body: bytes) -> Row | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _result(status: int, result: Row | list[Row]) -> Answer:
    return Answer.json(status, {"result": result}, **_COOKIE)


def _error(status: int, message: str, detail: str | None) -> Answer:
    return Answer.json(status, {"error": {"message": message, "detail": detail}, "status": "failure"}, **_COOKIE)
