"""The actions that the machine asks for, and the answers that it takes: pure values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.ngt.renewal.progress import (
    CvmClock,
    Failure,
    FoundVm,
    GuestSighting,
    Progress,
    PushedCertificate,
    Sighting,
    StepName,
    WaitReason,
)
from app.ngt.tools.change_command import ChangeAnswer, ToolCall


@dataclass(frozen=True, slots=True)
class FindVm:
    """Search the listings of the clusters for the VM."""

    step = StepName.FIND_VM


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """Look at the entity and, where the guest can be reached, at its certificate."""

    step = StepName.READ_NGT_BEFORE


@dataclass(frozen=True, slots=True)
class LookAtEntity:
    """Look at the entity and at the CVM's clock. `step` is the one that needs it."""

    step: StepName


@dataclass(frozen=True, slots=True)
class MakeChange:
    """Send a change to the CVM of the last look. `deletes`: after it the VM may be without its entity."""

    step: StepName
    calls: tuple[ToolCall, ...]
    deletes: bool


@dataclass(frozen=True, slots=True)
class RestartTheAgent:
    """Restart the agent in the guest over SSH."""

    step = StepName.RESTART_AGENT


@dataclass(frozen=True, slots=True)
class Verify:
    """Read the guest's certificate. `look`: look at the entity too."""

    look: bool
    step = StepName.VERIFY


@dataclass(frozen=True, slots=True)
class Wait:
    """Release the job. `until` None: an event wakes it; `deadline`: the end of its patience."""

    reason: WaitReason
    message: str
    until: datetime | None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """End the job: `outcome` is renewed, unverified, already_valid, planned or failed."""

    outcome: str
    message: str
    failure: Failure | None = None


Action = FindVm | ReadBefore | LookAtEntity | MakeChange | RestartTheAgent | Verify | Wait | Finish


@dataclass(frozen=True, slots=True)
class Resumed:
    """A worker claimed the job; `sighting` is of the poller, `reported`: a caller asked for a look now.

    `pushed` is the last certificate that was handed in for the VM, even before the job.
    """

    sighting: Sighting | None
    reported: bool
    pushed: PushedCertificate | None = None


@dataclass(frozen=True, slots=True)
class VmFound:
    """Exactly one cluster has the VM."""

    cluster: str
    vm: FoundVm


@dataclass(frozen=True, slots=True)
class BeforeRead:
    """The first reading: the entity, and the guest or the failure of reading it."""

    sighting: Sighting
    clock: CvmClock
    guest: GuestSighting | None
    guest_failure: Failure | None


@dataclass(frozen=True, slots=True)
class Looked:
    """A CVM showed the entity, or its absence."""

    sighting: Sighting
    clock: CvmClock


@dataclass(frozen=True, slots=True)
class Failed:
    """A look failed, or a change could not be sent: nothing was changed by it."""

    step: StepName
    failure: Failure


@dataclass(frozen=True, slots=True)
class Changed:
    """The framed answer to the change of the intent."""

    answer: ChangeAnswer


@dataclass(frozen=True, slots=True)
class ChangeLost:
    """The change was sent, and a complete answer did not arrive."""


@dataclass(frozen=True, slots=True)
class AgentRestarted:
    """The service of the guest was restarted."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The readings of a verification; either may be missing."""

    sighting: Sighting | None
    clock: CvmClock | None
    guest: GuestSighting | None
    guest_asked: bool


Answer = Resumed | VmFound | BeforeRead | Looked | Failed | Changed | ChangeLost | AgentRestarted | Verified


class Verdict(StrEnum):
    """The result of one step, as the job's steps show it. LOST: sent, and never answered."""

    DONE = "succeeded"
    NOT_YET = "not_yet"
    REFUSED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Transition:
    """The new progress, the verdict on the step, and the texts to show: `result_vec` and a sentence."""

    progress: Progress
    verdict: Verdict
    message: str = ""
    result_vec: str | None = None
