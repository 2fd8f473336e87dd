"""Observations of certificates: the last one of each source is stored, and the best one is shown with the VM.

The best source that is fresh counts: an observation that is a week older than the newest one may be of a certificate
that was replaced since. A computed date is not an observation and counts only where there is no other.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.vocabulary import CertificateSource
from app.store.postgres.chunks import chunks
from app.store.records.inventory import Observation

_FRESH_DAYS = 7
_FIELDS = ("not_before", "not_after", "serial", "fingerprint", "subject", "issuer")
_OBSERVED = ("observed_at", *_FIELDS, "given_by")
_COLUMNS = ", ".join(_OBSERVED)
_NEWER = ", ".join(f"{name} = excluded.{name}" for name in _OBSERVED)

# Two kinds of observations are ignored: those from before the certificate was renewed, and the cluster's date for a VM
# that has not picked up a new certificate yet, because it may be the date of the issued one. Once the ISO is ejected
# and the link is active, the agent has started with the certificate of the ISO. Before the job has mounted the ISO the
# agent cannot have started with it, although the certificate may be issued before that is stored.
_STORE = text(f"""
INSERT INTO certificate_observation AS o (vm_uuid, cluster, source, {_COLUMNS})
SELECT vm_uuid, cluster, source, {", ".join(f"seen.{name}" for name in _OBSERVED)}
FROM jsonb_to_recordset(CAST(:observed AS jsonb)) AS seen(
  vm_uuid text, source text, observed_at timestamptz, not_before timestamptz, not_after timestamptz,
  serial text, fingerprint text, subject text, issuer text, given_by text)
JOIN vm USING (vm_uuid)
WHERE vm.cluster = :cluster AND (vm.renewed_at IS NULL OR seen.observed_at >= vm.renewed_at)
  AND (source <> 'cvm_expiry_date' OR ((vm.awaiting_pickup_since IS NULL
      OR (vm.iso_mounted IS FALSE AND vm.link_active IS TRUE))
    AND NOT EXISTS (SELECT FROM job WHERE job.vm_uuid = vm.vm_uuid AND changing_since IS NOT NULL
      AND (NOT done OR (job.id = vm.last_job_id AND vm.awaiting_pickup_since IS NOT NULL))
      AND coalesce(CAST(progress->>'mounted_at' AS timestamptz), 'infinity') >= seen.observed_at)))
ON CONFLICT (vm_uuid, cluster, source) DO UPDATE
SET {_NEWER}
WHERE o.observed_at <= excluded.observed_at
""")  # noqa: S608 - constants of this module
_SELECT_BEST = text(f"""
UPDATE vm SET certificate_source = best.source, certificate_observed_at = best.observed_at,
  {", ".join(f"{name} = best.{name}" for name in _FIELDS)}
FROM (
  SELECT DISTINCT ON (vm_uuid) o.*
  FROM (
    SELECT *, max(observed_at) FILTER (WHERE source <> 'computed') OVER (PARTITION BY vm_uuid) AS newest
    FROM certificate_observation WHERE cluster = :cluster AND vm_uuid = ANY(:vms)
  ) AS o
  WHERE newest IS NULL OR (source <> 'computed' AND observed_at >= newest - make_interval(days => :fresh_days))
  ORDER BY vm_uuid, array_position(CAST(:ranks AS text[]), source)
) AS best
WHERE vm.vm_uuid = best.vm_uuid AND vm.cluster = :cluster
""")  # noqa: S608 - as above
# The clocks of a guest and of the cluster may differ by a day. An open job clears the mark at its own end. The VM's row
# may show the new date already, so the date is also compared with the one that the job found before.
_PICKED_UP = text("""
UPDATE vm SET awaiting_pickup_since = NULL
WHERE cluster = :cluster AND vm_uuid = ANY(:vms) AND awaiting_pickup_since IS NOT NULL
  AND NOT EXISTS (SELECT FROM job WHERE job.vm_uuid = vm.vm_uuid AND NOT done AND NOT validate_only)
  AND EXISTS (SELECT FROM certificate_observation o
    WHERE o.vm_uuid = vm.vm_uuid AND o.cluster = vm.cluster AND o.observed_at > vm.awaiting_pickup_since
      AND (o.not_before >= vm.awaiting_pickup_since - interval '1 day'
        OR (o.source = 'cvm_expiry_date' AND (o.not_after > vm.not_after OR o.not_after > (
          SELECT CAST(results->>'old_not_after' AS timestamptz) FROM job WHERE job.id = vm.last_job_id)))))
""")
_FORGET_EARLIER = text("""
DELETE FROM certificate_observation WHERE vm_uuid = :vm_uuid AND cluster = :cluster AND observed_at < :observed_at
""")
_KEEP = text(f"""
INSERT INTO certificate_observation (vm_uuid, cluster, source, {_COLUMNS})
VALUES (:vm_uuid, :cluster, :source, {", ".join(f":{name}" for name in _OBSERVED)})
ON CONFLICT (vm_uuid, cluster, source) DO UPDATE
SET {_NEWER}
""")  # noqa: S608 - as above


async def store_observations(connection: AsyncConnection, cluster: str, observed: Sequence[Observation]) -> None:
    """Stores observations of known VMs of the cluster, and selects the best one of each VM.

    An observation older than the stored one of its source changes nothing. For one VM at most one of each source.
    """
    for part in chunks(observed):
        rows = json.dumps([asdict(one) for one in part], default=datetime.isoformat)
        vms = sorted({one.vm_uuid for one in part})
        await connection.execute(_STORE, {"cluster": cluster, "observed": rows})
        await connection.execute(_PICKED_UP, {"cluster": cluster, "vms": vms})
        await _select_best(connection, cluster, vms)


async def store_renewed(connection: AsyncConnection, cluster: str, renewed: Observation) -> None:
    """Stores the observation of a renewal's end. Those from before a proof are of the replaced certificate."""
    if renewed.source is not CertificateSource.COMPUTED:
        place = {"vm_uuid": renewed.vm_uuid, "cluster": cluster, "observed_at": renewed.observed_at}
        await connection.execute(_FORGET_EARLIER, place)
    await connection.execute(_KEEP, {"cluster": cluster, **asdict(renewed)})
    await _select_best(connection, cluster, [renewed.vm_uuid])


async def _select_best(connection: AsyncConnection, cluster: str, vms: Sequence[str]) -> None:
    # The best source first: the order in which they are declared.
    values = {"cluster": cluster, "vms": list(vms), "ranks": list(CertificateSource), "fresh_days": _FRESH_DAYS}
    await connection.execute(_SELECT_BEST, values)
