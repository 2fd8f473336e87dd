"""The certificates that were seen on a cluster, as far as they tell whether another one was issued there."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from statistics import median_low

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ngt.inventory import SEVERAL, KnownCertificates
from app.ngt.vocabulary import Certificate, VmUuid

# Marks what is not stored yet.
_ASKED = "asked: "
# The guests' own certificates: the cluster's dates have no issuer.
_SEEN = text("""
SELECT o.vm_uuid, o.issuer, max(o.not_after - o.not_before) FROM certificate_observation o
JOIN vm USING (vm_uuid, cluster)
WHERE cluster = :cluster AND vanished_at IS NULL AND o.issuer IS NOT NULL AND o.not_before IS NOT NULL
  AND o.issuer <> coalesce(o.subject, '')
GROUP BY o.vm_uuid, o.issuer
""")
# A serial number is unique for its issuer, and each cluster has its own authority, perhaps of the same name.
_HOLDERS = text("""
SELECT asked.vm_uuid, min(coalesce(vm.name, vm.vm_uuid))
FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS asked(vm_uuid text, fingerprint text, serial text, issuer text)
JOIN certificate_observation o ON o.vm_uuid <> asked.vm_uuid AND (o.fingerprint = asked.fingerprint
  OR (o.cluster = :cluster AND o.serial = asked.serial AND o.issuer = asked.issuer))
JOIN vm ON vm.vm_uuid = o.vm_uuid AND vm.cluster = o.cluster AND vm.vanished_at IS NULL
GROUP BY asked.vm_uuid
""")


async def known_certificates(
    connection: AsyncConnection, cluster: str, asked: Sequence[tuple[VmUuid, Certificate]]
) -> dict[VmUuid, KnownCertificates]:
    """For each VM and its certificate, what was seen beside it: before, and with the others that are asked about.

    Of two VMs with one certificate the later one in `asked` does not have it for its own.
    """
    lives: defaultdict[str, dict[str, timedelta]] = defaultdict(dict)
    for vm_uuid, issuer, life in (await connection.execute(_SEEN, {"cluster": cluster})).all():
        lives[issuer][vm_uuid] = life
    for vm_uuid, one in asked:
        if one.issuer != one.subject:
            lives[one.issuer].setdefault(_ASKED + vm_uuid, one.not_after - one.not_before)
    rows = [
        {"vm_uuid": vm_uuid, "fingerprint": one.fingerprint, "serial": one.serial, "issuer": one.issuer}
        for vm_uuid, one in asked
    ]
    found = (await connection.execute(_HOLDERS, {"cluster": cluster, "asked": json.dumps(rows)})).all()
    holders = {VmUuid(vm_uuid): holder for vm_uuid, holder in found}
    first: dict[tuple[str, str], VmUuid] = {}
    for vm_uuid, one in asked:
        if (holder := first.setdefault((one.issuer, one.serial), vm_uuid)) != vm_uuid:
            holders.setdefault(vm_uuid, holder)
    return {vm_uuid: _known(lives, vm_uuid, one, holders.get(vm_uuid)) for vm_uuid, one in asked}


def _known(
    lives: Mapping[str, Mapping[str, timedelta]], vm_uuid: VmUuid, one: Certificate, holder: str | None
) -> KnownCertificates:
    issuers = frozenset(issuer for issuer, seen in lives.items() if _counts(seen, vm_uuid, own=issuer == one.issuer))
    others = _others(lives.get(one.issuer, {}), vm_uuid, _ASKED + vm_uuid)
    usual = median_low([lives[one.issuer][other] for other in others]) if len(others) >= SEVERAL else None
    return KnownCertificates(issuers, usual, holder)


def _counts(seen: Iterable[str], vm_uuid: VmUuid, *, own: bool) -> bool:
    """An issuer that only one of the others shows now, and nobody before, may be the foreign one."""
    others = _others(seen, _ASKED + vm_uuid)
    return any(not other.startswith(_ASKED) for other in others) or len(others) > (0 if own else 1)


def _others(seen: Iterable[str], *own: str) -> list[str]:
    return [vm for vm in seen if vm not in own]
