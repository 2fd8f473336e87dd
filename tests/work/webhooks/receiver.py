"""A plain receiver of webhooks: takes everything with 204, unless it was told to answer something else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.work.webhooks.http_server import Answer, HttpServer

HANG = Answer(hangs=True)
GONE = Answer(410)
REDIRECT = Answer(307, headers={"Location": "http://169.254.169.254/latest/meta-data/"})


def busy(retry_after: str, status: int = 429) -> Answer:
    return Answer(status, headers={"Retry-After": retry_after})


@contextmanager
def running_receiver(certificate: Path | None = None, key: Path | None = None) -> Iterator[HttpServer]:
    with HttpServer(lambda _: Answer()).running(certificate, key) as receiver:
        yield receiver
