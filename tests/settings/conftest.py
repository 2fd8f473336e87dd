"""The files that targets of webhooks name."""

from tests.work.webhooks.conftest import authority, secret_file

__all__ = ["authority", "secret_file"]
