"""The terms of Nutanix, and the facts that its tools print.

A fact that was not printed is None or UNKNOWN, never a guess.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

VmUuid = NewType("VmUuid", str)
"""A VM's UUID in lower case. Only `parse_vm_uuid` converts text to it, so it is safe in a command line."""

ResultWord = NewType("ResultWord", str)
"""One member of `result_vec`. The enum is open: any word, or a number that the printer had no word for."""

NO_ERROR = ResultWord("kNoError")
NO_FREE_CD_ROM_SLOT = ResultWord("kNoFreeCdRomSlot")

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def parse_vm_uuid(text: str) -> VmUuid:
    """Upper case becomes lower case; anything but 8-4-4-4-12 hexadecimal digits is a ValueError."""
    if not _UUID.fullmatch(text):
        raise ValueError("a VM's UUID is 32 hexadecimal digits in the form 8-4-4-4-12")
    return VmUuid(text.lower())


class PowerState(StrEnum):
    """The power state in `ncli vm list`. Suspended, paused and unknown words are OTHER."""

    ON = "on"
    OFF = "off"
    OTHER = "other"
    UNKNOWN = "unknown"


class CertificateSource(StrEnum):
    """The source of a certificate's dates, the best first: a fresh better source overrules the others."""

    # The guest's own `client-cert.pem`, read over SSH.
    GUEST_CERTIFICATE = "guest_certificate"
    # The same file, handed in by a caller.
    PUSHED_CERTIFICATE = "pushed_certificate"
    # `client_cert_expiry_date`, as the agent reported it to the cluster.
    CVM_EXPIRY_DATE = "cvm_expiry_date"
    # A thousand days after a renewal that was not proved. It never justifies skipping a VM.
    COMPUTED = "computed"


CERTIFICATE_LIFETIME_DAYS = 1000
"""The validity of a client certificate (second-hand, for AOS 5.18)."""


@dataclass(frozen=True, slots=True)
class NgtState:
    """A VM's NGT state in ncli; None: not printed. `iso_mounted` can be stale and proves nothing."""

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
    """One VM tools entity, a `vm_info_vec` of `nutanix_guest_tools_cli`'s query; None: not printed.

    `client_cert_expiry_date` is in Unix seconds; the agent reports it, so it belongs to the certificate in the guest.
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
    """The last state of a CVM; one that is down has a fault. `changed_at`: the time of the last change of `is_up`.

    A CVM that accepts the login is down while its shell or its tools cannot be used.
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
