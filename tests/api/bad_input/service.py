"""The API on a database of its own, without a worker: what is stored stays as it was stored."""

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack
from uuid import uuid4

import httpx
import psycopg
from psycopg.sql import SQL, Identifier

VM = "20edafba-1b5c-4a7e-8d1f-0b6f6a9d2c11"
RENEW = f"/vms/{VM}/ngt/renew"
JSON = {"Content-Type": "application/json"}
MEGABYTE = 1024 * 1024

WORDS = ("mode", "restart_agent", "when_powered_off", "on_conflict")
FLAGS = ("force", "create_if_absent", "accept_unverified", "validate_only")
# The free texts, which are stored and shown, with their longest lengths.
NOTES = {"correlation_id": 100, "correlation_display": 100, "change_number": 40, "requested_by": 100}

# What no request that is refused may leave a row in. The note of a key's last use is none of the request's doing.
_TABLES = ("job", "step", "exchange", "correlation", "idempotency", "vm", "cluster", "procrastinate_jobs")
_DIGEST = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"


class Sent(TypedDict, total=False):
    """What a request may carry, by the names of httpx."""

    json: Any
    content: Any
    params: dict[str, str]


@dataclass(frozen=True, slots=True)
class Service:
    """`tokens`: the API keys by what is special about them; `all` may do everything everywhere."""

    client: httpx.AsyncClient
    url: str
    tokens: dict[str, str]

    def key(self, name: str = "all") -> dict[str, str]:
        return {"X-API-Key": self.tokens[name]}

    async def refuses(
        self,
        status: int,
        code: str,
        path: str = RENEW,
        *,
        method: str = "POST",
        pointer: str | None = None,
        headers: dict[str, str] | dict[bytes, bytes] | None = None,
        **sent: Unpack[Sent],
    ) -> httpx.Response:
        """The request is refused so, in the form that all errors have, and nothing was stored.

        `headers` None: those of the key that may do everything.
        """
        before = self.stored()
        answer = await self.client.request(method, path, headers=self.key() if headers is None else headers, **sent)
        assert answer.status_code == status, answer.text
        problem = check_problem(answer)
        assert problem["code"] == code, problem
        if pointer is not None:
            assert pointer in [error["pointer"] for error in problem["errors"]], problem
            assert all(error["detail"] for error in problem["errors"])
        assert self.stored() == before
        return answer

    async def accepts(
        self, path: str = "", *, headers: dict[str, str] | None = None, **sent: Unpack[Sent]
    ) -> dict[str, Any]:
        """The renewal is taken up: of a VM of its own, unless `path` names one."""
        sent_headers = self.key() | (headers or {})
        answer = await self.client.post(path or f"/vms/{uuid4()}/ngt/renew", headers=sent_headers, **sent)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"/jobs/{job['id']}"
        return job

    def stored(self) -> list[tuple[Any, ...]]:
        """What all the tables hold, as one digest for each."""
        with psycopg.connect(self.url) as connection:
            return [connection.execute(SQL(_DIGEST).format(Identifier(table))).fetchall()[0] for table in _TABLES]

    def stored_job(self, job_id: str) -> dict[str, Any]:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT to_jsonb(job) FROM job WHERE id = %s", (job_id,)).fetchone()
        assert found is not None
        job: dict[str, Any] = found[0]
        return job


def check_problem(answer: httpx.Response) -> dict[str, Any]:
    """The members of RFC 9457, and ours, are there and agree with each other and with the answer."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:problem:ngt-renewal:{problem['code']}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert isinstance(problem["retryable"], bool)
    assert all(problem[name] for name in ("title", "detail", "instance", "action"))
    assert None not in problem.values()
    return problem
