"""The words of the field as Nutanix spells them, and the facts that are read from its tools.

A fact that was not said is None or UNKNOWN, never a guess.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

VmUuid = NewType("VmUuid", str)
"""A VM's UUID in lower case. Only `parse_vm_uuid` makes one from text, so it is safe in a command line."""

ResultWord = NewType("ResultWord", str)
"""One member of `result_vec`. The enum is open: any word, or a bare number where the printer had none."""

NO_ERROR = ResultWord("kNoError")
NO_FREE_CD_ROM_SLOT = ResultWord("kNoFreeCdRomSlot")

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def parse_vm_uuid(text: str) -> VmUuid:
    """Upper case becomes lower case; anything but 8-4-4-4-12 hexadecimal digits is a ValueError."""
    if not _UUID.fullmatch(text):
        raise ValueError("a VM's UUID is 32 hexadecimal digits in the form 8-4-4-4-12")
    return VmUuid(text.lower())


class PowerState(StrEnum):
    """Whether a VM runs, as `ncli vm list` says. Suspended, paused and words not known are OTHER."""

    ON = "on"
    OFF = "off"
    OTHER = "other"
    UNKNOWN = "unknown"


class CertificateSource(StrEnum):
    """Where a certificate's dates come from, the best first: a better one that is fresh counts, whatever others say."""

    # The guest's own `client-cert.pem`, read over SSH.
    GUEST_CERTIFICATE = "guest_certificate"
    # The same file, handed in by somebody.
    PUSHED_CERTIFICATE = "pushed_certificate"
    # `client_cert_expiry_date`, as the agent reported it to the cluster.
    CVM_EXPIRY_DATE = "cvm_expiry_date"
    # A thousand days after a renewal that could not be proved. It never justifies leaving a VM out.
    COMPUTED = "computed"


CERTIFICATE_LIFETIME_DAYS = 1000
"""How long a client certificate lives (second hand; domain knowledge of AOS 5.18)."""


@dataclass(frozen=True, slots=True)
class NgtState:
    """What ncli says of a VM's NGT; None is "not said". `iso_mounted` can be stale and proves nothing."""

    enabled: bool | None
    iso_mounted: bool | None
    vss_snapshot: bool | None
    file_level_restore: bool | None
    link_active: bool | None


@dataclass(frozen=True, slots=True)
class VmRecord:
    """One VM of `ncli vm list`. Names are not unique; `ngt` is None where the listing has no NGT state."""

    vm_uuid: VmUuid
    name: str
    power: PowerState
    addresses: tuple[str, ...]
    controller_vm: bool
    ngt: NgtState | None


@dataclass(frozen=True, slots=True)
class VmToolsEntity:
    """One VM tools entity, a `vm_info_vec` of `nutanix_guest_tools_cli`'s query; None is "not said".

    `client_cert_expiry_date` is in Unix seconds and is reported by the agent, so it is of the certificate in the guest.
    """

    vm_uuid: VmUuid
    ngt_uuid: str | None
    name: str | None
    enabled: bool | None
    iso_mounted: bool | None
    vss_snapshot: bool | None
    file_level_restore: bool | None
    link_active: bool | None
    communication_type: str | None
    client_cert_expiry_date: int | None


@dataclass(frozen=True, slots=True)
class CvmState:
    """A CVM as the service last found it; one that is not up has a fault. `changed_at`: when it came up or went down.

    A CVM that accepts the login is not up while its shell or its tools cannot be used.
    """

    address: str
    is_up: bool
    checked_at: datetime
    fault_code: str | None = None
    fault: str | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A guest's client certificate. Times are aware, in UTC; `serial` and `fingerprint` (SHA-256) in lower-case hex."""

    not_before: datetime
    not_after: datetime
    serial: str
    fingerprint: str
    subject: str
    issuer: str
