"""The exchanges of a renewal as the job's log shows them: masked, and without other VMs."""

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from app.ngt.masking import mask
from app.ngt.renewal.progress import StepName
from app.ngt.vocabulary import VmRecord, VmUuid
from app.ssh.host import CommandResult
from app.store.records.claims import NewExchange
from app.work.clusters.client import Listing, Query
from app.work.clusters.database_clock import DatabaseClock


def of_command(step: StepName, place: str, text: str, result: CommandResult, now: datetime) -> NewExchange:
    sent_at = now - timedelta(seconds=result.duration_s)
    return answered(NewExchange(step, place, sent_at, mask(text)), now, result=result)


def answered(
    sent: NewExchange, now: datetime, *, result: CommandResult | None = None, fault: str | None = None
) -> NewExchange:
    if result is None:
        return replace(sent, answered_at=now, fault=fault)
    return replace(
        sent,
        answered_at=now,
        exit_status=result.exit_status,
        stdout=mask(result.stdout),
        stderr=mask(result.stderr),
        fault=fault,
    )


def of_failed_reading(place: str, now: datetime, fault: str) -> NewExchange:
    return NewExchange(StepName.VERIFY, place, now, "", now, fault=fault)


def of_listing(listing: Listing, record: VmRecord, clock: DatabaseClock) -> NewExchange:
    """Of all the VMs of the listing, only this one is shown, as it was parsed."""
    answered_at = clock.at(listing.read_s)
    shown = json.dumps(asdict(record), ensure_ascii=False)
    others = len(listing.vms) - 1
    return NewExchange(
        step=StepName.FIND_VM,
        place=listing.cvm,
        sent_at=answered_at - timedelta(seconds=listing.duration_s),
        text=listing.text,
        answered_at=answered_at,
        exit_status=listing.exit_status,
        stdout=mask(f"{shown}\n[as it was read; {others} other VMs are left out]"),
    )


def of_query(query: Query, vm_uuid: VmUuid, step: StepName, clock: DatabaseClock) -> NewExchange:
    """Of all the entities of the query, only this VM's is shown, as it was printed."""
    result = query.asked.result
    entity = query.entities.get(vm_uuid)
    shown = _block_of(result.stdout, vm_uuid) if entity is not None else "(the VM is not in the answer)"
    others = query.other_count + len(query.entities) - (entity is not None)
    return NewExchange(
        step=step,
        place=query.cvm,
        sent_at=clock.at(query.read_s - result.duration_s),
        text=query.asked.command.text,
        answered_at=clock.at(query.read_s),
        exit_status=result.exit_status,
        stdout=mask(f"{shown}\n[{others} other entities are left out]"),
        stderr=mask(result.stderr),
    )


def _block_of(body: str, vm_uuid: VmUuid) -> str:
    """The `vm_info_vec` of one VM, from its first line to the beginning of the next one."""
    position = body.lower().find(vm_uuid)
    begin = max(body.rfind("vm_info_vec", 0, position), 0)
    end = body.find("vm_info_vec", position)
    return body[begin : end if end > 0 else len(body)].rstrip()
