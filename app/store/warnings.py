"""The sent warnings and digests: stored in the transaction that writes their deliveries.

One replica at a time handles a cluster, so no warning is sent twice. A warning is stored even when no target wants it,
so a target that is configured later receives only later warnings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.events import CertificateEventType, CertificateFacts, DigestFacts, ExpiringVm, ServiceEventType
from app.field_types import from_record
from app.ngt.vocabulary import VmUuid
from app.ngt.warnings.due import (
    EXPIRED,
    SAME_CERTIFICATE_DAYS,
    DueWarning,
    KnownCertificate,
    WarningRules,
    days_left,
    due_warnings,
    latest_time_of_day,
    start_of_day,
)
from app.ngt.warnings.messages import (
    DatedVm,
    DigestCounts,
    LastScans,
    digest_action,
    digest_message,
    expiry_line,
    warning_action,
    warning_message,
)
from app.settings import Warnings
from app.store.postgres.advisory_locks import CLUSTER_WARNINGS
from app.store.postgres.chunks import chunks
from app.store.postgres.database import Database
from app.store.records.rows import record_of
from app.store.webhooks.outbox import Outbox

_FIRST_TO_EXPIRE = 10
_BEGIN = text("SELECT pg_try_advisory_xact_lock(:lock, hashtext(:cluster)), clock_timestamp()")
_DATED = """v.vm_uuid, v.name, v.not_after, v.certificate_source, v.certificate_observed_at, v.serial,
  v.awaiting_pickup_since IS NOT NULL AS new_certificate_issued"""
_ENDING = text(f"""
SELECT {_DATED}, told.days_before AS told_days_before,
  EXISTS (SELECT FROM job WHERE job.vm_uuid = v.vm_uuid AND NOT done AND NOT validate_only
    AND changing_since IS NOT NULL) AS renewal_is_changing
FROM vm v CROSS JOIN LATERAL (
  SELECT min(w.days_before) AS days_before FROM certificate_warning w
  WHERE w.vm_uuid = v.vm_uuid AND w.cluster = v.cluster
    AND w.not_after BETWEEN v.not_after - CAST(:same AS interval) AND v.not_after + CAST(:same AS interval)) AS told
WHERE v.cluster = :cluster AND v.vanished_at IS NULL AND v.not_after <= :until
  AND told.days_before IS DISTINCT FROM :expired
""")  # noqa: S608 - the only part put in is a constant of this module
_REMEMBER = text("""
INSERT INTO certificate_warning (vm_uuid, cluster, not_after, days_before, own_event, warned_at)
SELECT vm_uuid, :cluster, not_after, days_before, own_event, :now
FROM jsonb_to_recordset(CAST(:due AS jsonb))
  AS due(vm_uuid text, not_after timestamptz, days_before int, own_event boolean)
ON CONFLICT DO NOTHING
RETURNING vm_uuid
""")
_EVENTS_SINCE = text(
    "SELECT count(*) FROM certificate_warning WHERE cluster = :cluster AND own_event AND warned_at >= :since"
)
_WAS_SCANNED = text("SELECT EXISTS (SELECT FROM cluster WHERE name = :cluster AND scanned_at IS NOT NULL)")
_CLAIM_DIGEST = text("""
UPDATE cluster SET digest_at = :now FROM (SELECT name, digest_at FROM cluster WHERE name = :cluster) AS earlier
WHERE cluster.name = earlier.name AND cluster.scanned_at IS NOT NULL
  AND (earlier.digest_at IS NULL OR earlier.digest_at < :due)
RETURNING earlier.digest_at AS previous_digest_at, scanned_at, scan_fault_code, scan_fault, scan_fault_at
""")
_COUNT = text("""
SELECT seen.*, told.*,
  (SELECT count(*) FROM job WHERE cluster = :cluster AND NOT done AND stranded_since IS NOT NULL) AS stranded
FROM (
  SELECT count(*) AS vms,
    count(*) FILTER (WHERE not_after <= :now) AS expired,
    count(*) FILTER (WHERE not_after > :now AND not_after <= :now + interval '7 days') AS within_7_days,
    count(*) FILTER (WHERE not_after > :now AND not_after <= :now + interval '30 days') AS within_30_days,
    count(*) FILTER (WHERE not_after > :now AND not_after <= :now + interval '60 days') AS within_60_days,
    count(*) FILTER (WHERE not_after > :now AND not_after <= :now + interval '90 days') AS within_90_days,
    count(*) FILTER (WHERE not_after IS NULL) AS unknown,
    count(*) FILTER (WHERE awaiting_pickup_since IS NOT NULL) AS awaiting_pickup
  FROM vm WHERE cluster = :cluster AND vanished_at IS NULL
) AS seen CROSS JOIN (
  SELECT count(DISTINCT vm_uuid) AS newly_expiring,
    count(DISTINCT vm_uuid) FILTER (WHERE NOT own_event) AS events_left_out
  FROM certificate_warning WHERE cluster = :cluster AND (CAST(:since AS timestamptz) IS NULL OR warned_at > :since)
) AS told
""")
_FIRST = text(f"""
SELECT {_DATED} FROM vm v WHERE v.cluster = :cluster AND v.vanished_at IS NULL AND v.not_after > :now
ORDER BY v.not_after, v.vm_uuid LIMIT :most
""")  # noqa: S608 - as above


@dataclass(frozen=True, slots=True)
class Told:
    """The warnings of one round: events of single certificates, those left to the digest, and the digest."""

    events: int = 0
    left_to_digest: int = 0
    digest: bool = False


class CertificateWarnings:
    """The warnings of one database. Every function raises Fault `database-unavailable` when it does not answer."""

    def __init__(self, database: Database, outbox: Outbox, settings: Warnings) -> None:
        self._database = database
        self._outbox = outbox
        self._rules = WarningRules(settings.days_before, settings.most_events_per_day)
        self._digest_time = settings.digest_time
        self._zone = settings.zone

    async def tell(self, cluster: str, now: datetime | None = None) -> Told:
        """Writes the due warnings of the cluster; nothing while another replica does.

        `now` None: the database's time, read under the lock.
        """
        async with self._database.transaction() as connection:
            lock = {"lock": CLUSTER_WARNINGS, "cluster": cluster}
            is_mine, database_now = (await connection.execute(_BEGIN, lock)).one()
            if not is_mine:
                return Told()
            at = database_now if now is None else now
            warned = await self._warn(connection, cluster, at)
            digest = await self._digest(connection, cluster, at)
            own_events = sum(warning.own_event for warning in warned)
            return Told(own_events, len(warned) - own_events, digest)

    async def _warn(self, connection: AsyncConnection, cluster: str, now: datetime) -> Sequence[DueWarning]:
        window = {"cluster": cluster, "until": now + self._rules.longest, "expired": EXPIRED}
        same = timedelta(days=SAME_CERTIFICATE_DAYS)
        rows = (await connection.execute(_ENDING, {**window, "same": same})).mappings().all()
        since = {"cluster": cluster, "since": start_of_day(now, self._zone)}
        events_today = await connection.scalar(_EVENTS_SINCE, since) if rows else 0
        due: Sequence[DueWarning] = due_warnings(map(_known_certificate, rows), self._rules, now, events_today or 0)
        if await self._waits_for_first_digest(connection, cluster):
            due = [warning for warning in due if warning.own_event]
        remembered = await _remember(connection, cluster, due, now)
        vms = {row["vm_uuid"]: _dated_vm(row) for row in rows}
        told = [
            (
                CertificateEventType.EXPIRED if warning.days_before == EXPIRED else CertificateEventType.EXPIRING,
                _certificate_facts(cluster, vms[warning.vm_uuid], warning, now),
            )
            for warning in remembered
            if warning.own_event
        ]
        await self._outbox.write_cluster_events(connection, cluster, told)
        return remembered

    async def _waits_for_first_digest(self, connection: AsyncConnection, cluster: str) -> bool:
        """Until the first whole scan, which may be long in coming, nothing is left to a digest: it stays due."""
        if self._digest_time is None:
            return False
        return not await connection.scalar(_WAS_SCANNED, {"cluster": cluster})

    async def _digest(self, connection: AsyncConnection, cluster: str, now: datetime) -> bool:
        """After the warnings of the same round, so that it counts them."""
        if self._digest_time is None:
            return False
        due = {"cluster": cluster, "now": now, "due": latest_time_of_day(now, self._digest_time, self._zone)}
        row = (await connection.execute(_CLAIM_DIGEST, due)).mappings().first()
        if row is None:
            return False
        values = {"cluster": cluster, "now": now}
        counted = {**values, "since": row["previous_digest_at"]}
        counts = DigestCounts(**(await connection.execute(_COUNT, counted)).mappings().one())
        first = (await connection.execute(_FIRST, {**values, "most": _FIRST_TO_EXPIRE})).mappings()
        scans = LastScans(row["scanned_at"], row["scan_fault_code"], row["scan_fault"], row["scan_fault_at"])
        facts = _digest_facts(cluster, counts, [_dated_vm(vm) for vm in first], scans, row["previous_digest_at"])
        await self._outbox.write_cluster_events(connection, cluster, [(ServiceEventType.DIGEST, facts)])
        return True


def _certificate_facts(cluster: str, vm: DatedVm, due: DueWarning, now: datetime) -> dict[str, Any]:
    facts = from_record(
        CertificateFacts,
        vm,
        message=warning_message(vm, due, now),
        action=warning_action(cluster, vm),
        vm_name=vm.name,
        cluster=cluster,
        days_left=days_left(vm.not_after, now),
        days_before=due.days_before,
        link=f"/vms/{vm.vm_uuid}",
    )
    return facts.model_dump(mode="json")


def _digest_facts(
    cluster: str, counts: DigestCounts, first: Sequence[DatedVm], scans: LastScans, previous_digest_at: datetime | None
) -> dict[str, Any]:
    facts = from_record(
        DigestFacts,
        counts,
        message=digest_message(cluster, counts, scans),
        action=digest_action(cluster, counts, scans),
        cluster=cluster,
        expiring_first=[from_record(ExpiringVm, vm, vm_name=vm.name) for vm in first],
        expiring_first_text="; ".join(map(expiry_line, first)) or None,
        previous_digest_at=previous_digest_at,
        last_whole_scan_at=scans.whole_at,
        scan_failed_at=scans.fault_at if scans.fault_code else None,
        scan_error_code=scans.fault_code,
        scan_error_message=scans.fault if scans.fault_code else None,
        link=f"/vms?cluster={cluster}&sort=not_after",
    )
    return facts.model_dump(mode="json")


async def _remember(
    connection: AsyncConnection, cluster: str, due: Sequence[DueWarning], now: datetime
) -> list[DueWarning]:
    """The warnings that were not sent before, in their order."""
    remembered: list[DueWarning] = []
    for part in chunks(due):
        rows: list[dict[str, Any]] = [
            {
                "vm_uuid": warning.vm_uuid,
                "not_after": warning.not_after.isoformat(),
                "days_before": warning.days_before,
                "own_event": warning.own_event,
            }
            for warning in part
        ]
        values = {"cluster": cluster, "now": now, "due": json.dumps(rows)}
        new = set((await connection.scalars(_REMEMBER, values)).all())
        remembered += [warning for warning in part if warning.vm_uuid in new]
    return remembered


def _known_certificate(row: RowMapping) -> KnownCertificate:
    return KnownCertificate(
        VmUuid(row["vm_uuid"]), row["not_after"], row["told_days_before"], row["renewal_is_changing"]
    )


def _dated_vm(row: RowMapping) -> DatedVm:
    return record_of(DatedVm, row)
