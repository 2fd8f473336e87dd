"""The values that describe a simulated site; `demo_site` and `uniform_site` give ready ones."""

from dataclasses import dataclass, field
from enum import StrEnum


class Os(StrEnum):
    """The operating system of a guest, as `guest_os_type` spells it."""

    LINUX = "Linux"
    WINDOWS = "Windows"


class LogLines(StrEnum):
    """The two generations of log lines that the tools print before their answer."""

    Y2020 = "2020"
    Y2025 = "2025"


class Refresh(StrEnum):
    """The effect of `refresh_vm_tools_entity` on a cluster."""

    ABSENT = "absent"
    REISSUES = "reissues"
    CHANGES_NOTHING = "changes nothing"


class ReportedExpiry(StrEnum):
    """The certificate that `client_cert_expiry_date` is taken from."""

    INSTALLED = "installed"
    ISSUED = "issued"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Traits:
    """The behaviour of the software of one cluster.

    `mounted_flag_is_stale`: the flag stays true after the ISO was ejected, as a recorded screen shows.
    `listing_padding_bytes`: added to each VM of a JSON listing; a real record takes about 5 KB.
    """

    log_lines: LogLines = LogLines.Y2020
    refresh: Refresh = Refresh.ABSENT
    refresh_mounts: bool = False
    ncli_json: bool = True
    serial_port: bool = False
    reported_expiry: ReportedExpiry = ReportedExpiry.INSTALLED
    mounted_flag_is_stale: bool = False
    listing_padding_bytes: int = 0


@dataclass(frozen=True, slots=True)
class VmSpec:
    """One VM at the start.

    `expires_in_days` is the time left of its certificate, negative after its expiry. `clone_of` names the VM whose
    certificate and `ngt_uuid` the guest carries. The site chooses `addresses` where none are given.
    """

    name: str
    os: Os = Os.LINUX
    uuid: str | None = None
    powered_on: bool = True
    controller_vm: bool = False
    entity: bool = True
    clone_of: str | None = None
    expires_in_days: float = 12
    vss_snapshot: bool = True
    file_level_restore: bool = False
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One cluster: its name in the service's configuration, the number of its CVMs, and its VMs."""

    name: str = "c1"
    cvms: int = 3
    vms: tuple[VmSpec, ...] = ()
    traits: Traits = field(default_factory=Traits)


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A whole site. `latency_s` is the time that each tool takes, by its name; `REAL_LATENCY_S` is that of real tools.

    Guests that are not reachable have addresses and no server, so that a site may have tens of thousands.
    """

    clusters: tuple[ClusterSpec, ...]
    latency_s: dict[str, float] = field(default_factory=dict)
    guests_reachable: bool = True


REAL_LATENCY_S = {"nutanix_guest_tools_cli": 0.1, "ncli": 2.0}


def demo_site() -> SiteSpec:
    """One cluster with one VM of each sort."""
    vms = (
        VmSpec("web01", file_level_restore=True),
        VmSpec("web02"),
        VmSpec("db01", expires_in_days=3),
        VmSpec("会計サーバー"),
        VmSpec("twin"),
        VmSpec("twin"),
        VmSpec("switched-off", powered_on=False),
        VmSpec("Windows Server 2016 Template", os=Os.WINDOWS, expires_in_days=40),
        VmSpec("web01-clone", entity=False, clone_of="web01"),
        VmSpec("expired01", expires_in_days=-30),
        VmSpec("fresh01", expires_in_days=900),
        VmSpec("NTNX-CVM-A", controller_vm=True, entity=False),
    )
    return SiteSpec((ClusterSpec("c1", 3, vms),))


WAVES = (-20.0, 5.0, 25.0, 60.0, 200.0, 400.0, 700.0, 950.0)
"""The days until the certificates of a large site expire: certificates that were issued in waves expire in waves."""


def uniform_site(  # noqa: PLR0913 - the parameters of a site whose VMs are all alike
    *,
    vms: int,
    cvms: int = 3,
    clusters: int = 1,
    traits: Traits | None = None,
    latency_s: dict[str, float] | None = None,
    waves: tuple[float, ...] = (12,),
    guests_reachable: bool = True,
) -> SiteSpec:
    """Clusters named `c1`, `c2` and so on, with `vms` Linux VMs each, named `vm0001`, `vm0002` and so on.

    Their certificates take the remaining days of `waves` in turn.
    """
    named = tuple(VmSpec(f"vm{number:04}", expires_in_days=waves[number % len(waves)]) for number in range(1, vms + 1))
    made = (ClusterSpec(f"c{number}", cvms, named, traits or Traits()) for number in range(1, clusters + 1))
    return SiteSpec(tuple(made), latency_s or {}, guests_reachable)
