"""The values between a runner and the store: the claim, the intent, the answer, the release and the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.ngt.renewal.progress import Progress, PushedCertificate, Sighting
from app.ngt.vocabulary import VmUuid
from app.store.records.inventory import Observation


class FenceLost(Exception):
    """Another runner has the job, or a caller ended it; this one has nothing more to say."""


class Held(Exception):
    """A pause or a stranded VM lets nothing be deleted there now; the job was put back."""


@dataclass(slots=True)
class Claim:
    """A job in the hands of one runner."""

    job_id: UUID
    vm_uuid: VmUuid
    cluster: str | None
    fence: int
    attempt: int
    created_at: datetime
    now: datetime
    progress: Progress
    look_now: bool
    sighting: Sighting | None
    pushed: PushedCertificate | None
    last_step: tuple[int, str, str] | None


@dataclass(frozen=True, slots=True)
class StepDone:
    """The answer to a step: its verdict, as `app.ngt.renewal.steps.Verdict`, and the words to show."""

    name: str
    verdict: str
    finished_at: datetime
    message: str
    result_vec: str | None
    cvm: str | None


@dataclass(frozen=True, slots=True)
class NewExchange:
    """One text and its answer, masked. `exchange_id` names the row of an intent that was stored before it was sent."""

    step: str
    place: str
    sent_at: datetime
    text: str
    answered_at: datetime | None = None
    exit_status: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    fault: str | None = None
    exchange_id: int | None = None


@dataclass(frozen=True, slots=True)
class StepIntent:
    """The intent to take a step. `may_be_held`: nothing of the VM was deleted yet, so its cluster can hold it still."""

    name: str
    percent: int
    started_at: datetime
    cvm: str | None = None
    may_be_held: bool = False
    sent: NewExchange | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """The job waits; `until` None: the watch, a caller or a free slot wakes it."""

    status: str
    reason: str | None
    message: str
    until: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The job is done. `proven`: True and False count for the cluster, None does not.

    `certificate` is what the end says of the VM's certificate, and of what it is known. `stop_after_failures`: so many
    automatic jobs of the cluster that failed in a row stop these.
    """

    status: str
    outcome: str
    message: str
    error_code: str | None
    error_message: str | None
    remaining_action: str | None
    proven: bool | None
    pause_after_unproven: int
    certificate: Observation | None = None
    picked_up: bool = False
    stop_after_failures: int = 3


@dataclass(frozen=True, slots=True)
class ProgressColumns:
    """The columns of a progress, which the runner computes."""

    progress: Progress
    results: dict[str, Any]
    takes_slot: bool
    stranded: bool
    awaits_pickup: bool
    changing: bool = False
    done: StepDone | None = None
    sent: Sequence[NewExchange] = field(default=())


@dataclass(frozen=True, slots=True)
class AutoStop:
    """The end of a job stopped the automatic renewals of its cluster."""

    cluster: str
    failures_in_a_row: int
    stopped_at: datetime
    reason: str
