"""Add the inventory: what is known of every VM and its certificate, scans, CVMs, warnings and automatic renewals."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "inventory"
down_revision: str | Sequence[str] | None = "callers"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Earlier renewals that were proved, with the source of the proof. A deleted job leaves only the date: its source is
# `computed`, so warnings of it come in time.
_EARLIER_RENEWALS = """
INSERT INTO certificate_observation (vm_uuid, cluster, source, observed_at, not_before, not_after, serial)
SELECT vm.vm_uuid, vm.cluster, coalesce(results->>'verified_by', 'computed'), vm.renewed_at,
  CAST(results->>'new_not_before' AS timestamptz), vm.not_after, results->>'new_serial'
FROM vm LEFT JOIN LATERAL (
  SELECT results FROM job
  WHERE job.vm_uuid = vm.vm_uuid AND job.cluster = vm.cluster AND done AND outcome = 'renewed'
    AND CAST(results->>'new_not_after' AS timestamptz) = vm.not_after
    AND results->>'verified_by' IN ('guest_certificate', 'cvm_expiry_date')
  ORDER BY finished_at DESC LIMIT 1) AS proof ON true
WHERE vm.renewed_at IS NOT NULL AND vm.not_after IS NOT NULL
"""
_BEST_KNOWN = """
UPDATE vm SET certificate_source = o.source, certificate_observed_at = o.observed_at, not_before = o.not_before,
  serial = o.serial
FROM certificate_observation o WHERE o.vm_uuid = vm.vm_uuid AND o.cluster = vm.cluster
"""
_UNPROVED = "UPDATE vm SET not_after = NULL WHERE certificate_source IS NULL"


def _time(name: str, *, nullable: bool = True, server_default: sa.TextClause | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=server_default)


def _text(name: str, *, nullable: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _flag(name: str, *, nullable: bool = True) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=nullable)


def _count(name: str, *, nullable: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


_NOW = sa.text("now()")


def _new_columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "vm": (
            _text("power"),
            sa.Column("addresses", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
            _flag("ngt_enabled"),
            _flag("iso_mounted"),
            _flag("link_active"),
            _flag("vss_snapshot"),
            _flag("file_level_restore"),
            _text("communication_type"),
            _text("ngt_uuid"),
            _flag("has_entity"),
            _time("first_seen_at"),
            _time("last_seen_at"),
            _time("vanished_at"),
            _text("guest_fault_code"),
            _text("guest_fault"),
            _time("guest_fault_at"),
            _text("certificate_source"),
            _time("certificate_observed_at"),
            _time("not_before"),
            _text("serial"),
            _text("fingerprint"),
            _text("subject"),
            _text("issuer"),
        ),
        "cluster": (
            _time("scanned_at"),
            _text("scan_fault_code"),
            _text("scan_fault"),
            _time("scan_fault_at"),
            _time("digest_at"),
            sa.Column("auto_failures_in_a_row", sa.Integer(), server_default=sa.text("0"), nullable=False),
            _time("auto_stopped_at"),
            _text("auto_stopped_reason"),
        ),
        "job": (_text("automatic_rule"),),
    }


def upgrade() -> None:
    for table, columns in _new_columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("vm_by_not_after", "vm", ["not_after", "vm_uuid", "cluster"])
    op.create_index("vm_by_name", "vm", ["name", "vm_uuid", "cluster"])
    op.create_index("vm_by_cluster", "vm", ["cluster", "not_after"])
    op.create_index(
        "job_automatic", "job", ["cluster", "created_at"], postgresql_where=sa.text("automatic_rule IS NOT NULL")
    )
    op.create_table(
        "certificate_observation",
        _text("vm_uuid", nullable=False),
        _text("cluster", nullable=False),
        _text("source", nullable=False),
        _time("observed_at", nullable=False),
        _time("not_before"),
        _time("not_after", nullable=False),
        _text("serial"),
        _text("fingerprint"),
        _text("subject"),
        _text("issuer"),
        _text("given_by"),
        sa.ForeignKeyConstraint(["vm_uuid", "cluster"], ["vm.vm_uuid", "vm.cluster"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("vm_uuid", "cluster", "source"),
    )
    op.create_table(
        "certificate_warning",
        _text("vm_uuid", nullable=False),
        _text("cluster", nullable=False),
        _time("not_after", nullable=False),
        sa.Column("days_before", sa.Integer(), autoincrement=False, nullable=False),
        _flag("own_event", nullable=False),
        _time("warned_at", nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(["vm_uuid", "cluster"], ["vm.vm_uuid", "vm.cluster"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("vm_uuid", "cluster", "not_after", "days_before"),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.Uuid(), nullable=False),
        _text("cluster", nullable=False),
        _text("vm_uuid"),
        _text("origin", nullable=False),
        _text("caller_id", nullable=False),
        _text("caller", nullable=False),
        _text("status", nullable=False),
        _flag("done", nullable=False),
        _text("outcome"),
        _text("message", nullable=False),
        _text("error_code"),
        _text("error_message"),
        _count("vms_seen"),
        _count("vms_new"),
        _count("vms_vanished"),
        _count("dates_seen"),
        _count("guests_asked"),
        _count("guests_failed"),
        _count("version", nullable=False),
        _count("fence", nullable=False),
        _text("runner"),
        _time("lease_until"),
        _time("due_at"),
        _time("created_at", nullable=False, server_default=_NOW),
        _time("started_at"),
        _time("finished_at"),
        _time("updated_at", nullable=False, server_default=_NOW),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "scan_one_open",
        "scan",
        ["cluster", sa.literal_column("coalesce(vm_uuid, '')")],
        unique=True,
        postgresql_where=sa.text("NOT done"),
    )
    op.create_index("scan_by_creation", "scan", ["created_at", "id"])
    op.create_index("scan_by_cluster", "scan", ["cluster", "created_at"])
    op.create_table(
        "cvm",
        _text("cluster", nullable=False),
        _text("address", nullable=False),
        _flag("is_up", nullable=False),
        _time("changed_at", nullable=False),
        _time("checked_at", nullable=False),
        _text("fault_code"),
        _text("fault"),
        sa.PrimaryKeyConstraint("cluster", "address"),
    )
    op.execute(_EARLIER_RENEWALS)
    op.execute(_BEST_KNOWN)
    op.execute(_UNPROVED)


def downgrade() -> None:
    for table in ("cvm", "scan", "certificate_warning", "certificate_observation"):
        op.drop_table(table)
    op.drop_index("job_automatic", "job")
    for index in ("vm_by_cluster", "vm_by_name", "vm_by_not_after"):
        op.drop_index(index, "vm")
    for table, columns in _new_columns().items():
        for column in columns:
            op.drop_column(table, column.name)
