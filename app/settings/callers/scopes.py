"""Scopes: the permissions of API keys and of OIDC tokens."""

from enum import StrEnum


class Scope(StrEnum):
    """A permission of a caller."""

    VMS_READ = "vms:read"
    JOBS_READ = "jobs:read"
    RENEW = "renew"
    JOBS_CANCEL = "jobs:cancel"
    CERTIFICATES_WRITE = "certificates:write"
    CLUSTERS_SCAN = "clusters:scan"
    ADMIN = "admin"
