"""What a diagnosis finds: one example for each finding, and what holds whatever the facts are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ngt.diagnosis.diagnose import Finding, diagnose
from app.ngt.diagnosis.facts import ClusterFacts, Facts, JobFacts, KnownCertificateDates, VmFacts
from app.ngt.diagnosis.findings import FINDINGS, CallKind, Severity
from app.ngt.errors import FaultCode
from app.ngt.renewal.progress import Failure, WaitReason
from app.ngt.renewal.request import Mode, RestartAgent
from app.ngt.vocabulary import CertificateSource, CvmState, PowerState, parse_vm_uuid

VM = parse_vm_uuid("20edafba-0644-4e57-a3cf-4abef2f69a5f")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CVM_DOWN = CvmState("10.0.0.31", False, NOW, fault="timed out")
RENEW = f"/vms/{VM}/ngt/renew"
JOB = UUID("0199c1f2-7d10-7b52-a1ad-3a0f0c9a0b6e")
RESTARTED, RETRY = f"/jobs/{JOB}/agent-restarted", f"/jobs/{JOB}/retry"
GUEST, PUSHED, CVM, COMPUTED = CertificateSource


def days(number: float) -> timedelta:
    return timedelta(days=number)


def certificate(left: float = 500, *, source: CertificateSource = GUEST, ago: float = 0.1) -> KnownCertificateDates:
    return KnownCertificateDates(source, NOW - days(ago), NOW + days(left))


WELL = VmFacts(
    vm_uuid=VM,
    cluster="c1",
    name="web01",
    seen_at=NOW - days(0.1),
    power=PowerState.ON,
    addresses=("10.1.0.5",),
    has_entity=True,
    ngt_uuid="own",
    ngt_enabled=True,
    iso_mounted=False,
    link_active=True,
    certificate=certificate(),
    date_sources=frozenset({GUEST, CVM}),
)
WITH_GUESTS = ClusterFacts(guest_access=True)
OPEN = JobFacts(JOB, done=False, message="recreating the VM tools entity")
FAILED = JobFacts(
    JOB,
    done=True,
    outcome="failed",
    error_code=FaultCode.CERTIFICATE_NOT_RENEWED,
    error_message="nobody saw it in the VM",
    finished_at=NOW - days(1),
)
GONE: dict[str, Any] = {
    "has_entity": False,
    "ngt_uuid": None,
    "ngt_enabled": False,
    "link_active": False,
    "certificate": None,
}


def facts(job: JobFacts | None = None, cluster: ClusterFacts = WITH_GUESTS, **vm: Any) -> Facts:
    return Facts(replace(WELL, **vm), cluster, job)


_NO_DATES = frozenset[CertificateSource]()
_AWAITS: dict[str, Any] = {"awaiting_pickup_since": NOW - days(2), "iso_mounted": True}
_OFF: dict[str, Any] = {"power": PowerState.OFF, "link_active": False}
# The finding that is told first, the call that goes on from it, and its body.
EXAMPLES: list[tuple[str, Facts, str | None, dict[str, Any]]] = [
    ("vm-vanished", facts(vanished_at=NOW - days(1)), None, {}),
    ("vm-stranded", facts(replace(OPEN, stranded=True, delete_begun=True), **GONE), None, {}),
    (
        "entity-deleted-by-renewal",
        facts(replace(FAILED, delete_begun=True, error_code=FaultCode.ENTITY_CREATE_FAILED), **GONE),
        RETRY,
        {},
    ),
    ("entity-gone", facts(**GONE), RENEW, {"create_if_absent": True}),
    ("clone-without-entity", facts(**GONE, date_sources=frozenset({GUEST})), RENEW, {"create_if_absent": True}),
    ("ngt-not-enabled", facts(**GONE, date_sources=_NO_DATES), RENEW, {"create_if_absent": True}),
    ("ngt-disabled", facts(ngt_enabled=False), RENEW, {"create_if_absent": True}),
    (
        "guest-names-another-entity",
        facts(replace(FAILED, guest_names="another", entities=frozenset({"own"})), link_active=False),
        RENEW,
        {},
    ),
    ("certificate-expired", facts(certificate=certificate(-3), link_active=False), RENEW, {}),
    ("link-not-active", facts(link_active=False), None, {}),
    (
        "cluster-not-reached",
        replace(facts(), look_failed=Failure(FaultCode.CVM_UNREACHABLE, "no CVM of c1 answers")),
        None,
        {},
    ),
    ("never-seen", Facts(VmFacts(VM, "c1"), WITH_GUESTS), None, {}),
    ("seen-long-ago", facts(seen_at=NOW - days(20)), None, {}),
    (
        "no-free-cdrom",
        facts(replace(OPEN, wait_reason=WaitReason.NO_FREE_CDROM_SLOT), awaiting_pickup_since=NOW),
        None,
        {},
    ),
    ("awaiting-pickup", facts(replace(OPEN, wait_reason=WaitReason.AGENT_RESTART), **_AWAITS), RESTARTED, {}),
    ("vm-not-running", facts(**_OFF), None, {}),
    ("certificate-expires-soon", facts(certificate=certificate(12)), RENEW, {}),
    ("renewal-not-ended-well", facts(FAILED, certificate=certificate(400, ago=3)), RETRY, {}),
    ("guest-address-changed", facts(replace(FAILED, outcome="renewed", guest_address="10.1.0.9"), link_active=None),
     RENEW, {}),
    ("certificate-date-unknown", facts(certificate=None, date_sources=_NO_DATES), None, {}),
    (
        "certificate-date-computed",
        facts(certificate=certificate(source=COMPUTED), date_sources=frozenset({COMPUTED})),
        None,
        {},
    ),
    (
        "link-over-serial-port",
        facts(certificate=certificate(-3), communication_type="kSerialPort"),
        None,
        {},
    ),
    (
        "guest-not-readable",
        facts(guest_fault_code="guest-not-reached", guest_fault="it is silent", certificate=certificate(source=CVM)),
        None,
        {},
    ),
    ("entity-not-shown", facts(has_entity=None, ngt_enabled=None), None, {}),
    ("link-not-shown", facts(link_active=None), None, {}),
    ("renewal-open", facts(OPEN), None, {}),
    ("iso-mounted", facts(iso_mounted=True), None, {}),
    ("certificate-date-old", facts(certificate=certificate(ago=21)), None, {}),
    ("cluster-paused", facts(cluster=ClusterFacts(paused_at=NOW - days(1), pause_reason="AOS upgrade")), None, {}),
    ("service-paused", replace(facts(), service_paused_at=NOW - days(1)), None, {}),
    ("nothing-is-wrong", facts(), None, {}),
]  # fmt: skip


def codes(known: Facts) -> list[str]:
    return [finding.code for finding in diagnose(known, NOW).findings]


def found(known: Facts, code: str) -> Finding:
    return next(finding for finding in diagnose(known, NOW).findings if finding.code == code)


@pytest.mark.parametrize(("code", "known", "path", "body"), EXAMPLES, ids=[code for code, *_ in EXAMPLES])
def test_each_finding_has_its_example(code: str, known: Facts, path: str | None, body: dict[str, Any]) -> None:
    finding = found(known, code)
    call = finding.call
    assert (None if call is None else call.path) == path
    assert ({} if call is None else dict(call.body)) == body
    assert "web01" in finding.message or known.vm.name is None


def test_every_finding_has_an_example() -> None:
    assert [code for code, *_ in EXAMPLES] == list(FINDINGS)
    assert sorted(FINDINGS.values(), key=lambda rule: list(Severity).index(rule.severity)) == list(FINDINGS.values())


def test_a_cause_keeps_its_consequences_quiet() -> None:
    assert codes(facts(certificate=certificate(-3), link_active=False)) == ["certificate-expired"]
    assert codes(facts(**GONE)) == ["entity-gone"]
    assert codes(facts(**_OFF)) == ["vm-not-running"]
    assert codes(facts(vanished_at=NOW, **GONE)) == ["vm-vanished"]
    for seen in (dict[str, Any](), {"link_active": False}, {"certificate": None}):
        assert codes(facts(**seen, **_AWAITS)) == ["awaiting-pickup"]


def test_a_healthy_vm_is_told_with_what_was_checked() -> None:
    diagnosis = diagnose(facts(replace(OPEN, done=True, outcome="renewed")), NOW)
    assert diagnosis.healthy
    assert diagnosis.summary == "VM 'web01': nothing is wrong with its NGT, as far as it was checked."
    (finding,) = diagnosis.findings
    assert finding.message == (
        "As VM 'web01' was seen on 2026-11-24: its certificate has 500 days left (good until 2028-04-07, as it was "
        "read in the guest on 2026-11-24), its agent is connected, it has its tools entity, NGT is switched on, it "
        "runs, its last renewal was proved."
    )


def test_the_summary_is_the_gravest_finding() -> None:
    two = facts(
        certificate=certificate(-3), guest_fault="10.1.0.5 does not answer", guest_fault_code="guest-not-reached"
    )
    assert diagnose(two, NOW).summary == (
        "VM 'web01': its NGT does not work: the certificate has expired (1 more below)."
    )
    assert diagnose(facts(certificate=certificate(1)), NOW).summary == (
        "VM 'web01': its NGT needs attention: the certificate expires soon."
    )


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (-0.5, "expired less than a day ago"),
        (-1.5, "expired 1 day ago"),
        (-30, "expired 30 days ago"),
        (0.5, "expires in less than a day"),
        (1.5, "expires in 1 day"),
        (29.5, "expires in 29 days"),
    ],
)
def test_the_days_of_a_certificate_are_told(left: float, said: str) -> None:
    assert said in diagnose(facts(certificate=certificate(left)), NOW).findings[0].message


@pytest.mark.parametrize(
    ("known", "body"),
    [
        (facts(cluster=ClusterFacts(guest_access=True)), {}),
        (facts(cluster=ClusterFacts()), {"restart_agent": "manual"}),
        (facts(cluster=ClusterFacts(restart_agent=RestartAgent.MANUAL)), {}),
        (
            facts(cluster=ClusterFacts(), date_sources=frozenset({PUSHED})),
            {"restart_agent": "manual", "accept_unverified": True},
        ),
        (facts(cluster=ClusterFacts(accept_unverified=True), date_sources=_NO_DATES), {"restart_agent": "manual"}),
        (facts(guest_fault="does not answer"), {"restart_agent": "manual"}),
        (facts(guest_fault="no certificate", guest_fault_code="guest-certificate-missing"), {}),
        (facts(**_OFF), {"when_powered_off": "proceed"}),
        (facts(**_OFF, guest_fault="does not answer", date_sources=_NO_DATES), {"when_powered_off": "proceed"}),
        (facts(renewed_at=NOW - days(0.5)), {"force": True}),
        (facts(cluster=replace(WITH_GUESTS, renewed_recently_s=3600), renewed_at=NOW - days(0.5)), {}),
        (facts(cluster=replace(WITH_GUESTS, renewed_recently_s=7 * 86400), renewed_at=NOW - days(3)), {"force": True}),
        (facts(renewed_at=NOW - days(2)), {}),
    ],
)
def test_a_renewal_is_called_so_that_it_is_not_refused(known: Facts, body: dict[str, Any]) -> None:
    known = replace(known, vm=replace(known.vm, certificate=certificate(5)))
    call = found(known, "certificate-expires-soon").call
    assert call is not None
    assert (call.method, call.path, dict(call.body)) == ("POST", RENEW, body)


def test_a_refresh_creates_no_entity_so_it_is_called_to_recreate() -> None:
    call = found(facts(cluster=ClusterFacts(mode=Mode.REFRESH, guest_access=True), **GONE), "entity-gone").call
    assert call is not None
    assert dict(call.body) == {"create_if_absent": True, "mode": "recreate"}


def test_while_a_job_renews_nobody_is_told_to_renew() -> None:
    finding = found(facts(OPEN, certificate=certificate(-3)), "certificate-expired")
    assert finding.call is None
    assert finding.next_step == f"Wait for job {JOB}, which renews the certificate: recreating the VM tools entity."


def test_an_issued_certificate_is_picked_up_and_not_issued_again() -> None:
    known = facts(FAILED, certificate=certificate(-3), **_AWAITS)
    for code in ("certificate-expired", "awaiting-pickup", "renewal-not-ended-well"):
        call = found(known, code).call
        assert call is not None
        assert call.path == RETRY
    assert found(facts(**_AWAITS), "awaiting-pickup").call is None


def test_a_job_that_cannot_be_retried_is_followed_by_a_renewal() -> None:
    refused = replace(FAILED, error_code=FaultCode.NOT_VERIFIABLE, error_message="no date is shown")
    known = facts(refused, cluster=ClusterFacts(), date_sources=_NO_DATES, certificate=None)
    finding = found(known, "renewal-not-ended-well")
    assert finding.call is not None
    assert (finding.call.path, dict(finding.call.body)["accept_unverified"]) == (RENEW, True)


def test_a_failure_that_was_mended_since_is_not_told() -> None:
    assert codes(facts(FAILED)) == ["nothing-is-wrong"]
    assert codes(facts(FAILED, link_active=False)) == ["link-not-active", "renewal-not-ended-well"]


def test_a_cancelled_renewal_says_what_is_left_to_do() -> None:
    cancelled = replace(
        FAILED,
        outcome="cancelled",
        error_code=FaultCode.CANCELLED,
        error_message="cancelled",
        remaining_action="the new certificate is mounted: restart the agent",
    )
    known = facts(cancelled, certificate=certificate(400, ago=3))
    finding = found(known, "renewal-not-ended-well")
    assert finding.next_step == "The new certificate is mounted: restart the agent."
    assert finding.call is not None
    assert finding.call.path == RETRY
    assert codes(facts(replace(cancelled, remaining_action=None))) == ["nothing-is-wrong"]


def test_a_guest_that_refuses_the_login_is_not_looked_for_in_prism() -> None:
    refused = facts(guest_fault_code="ssh-auth-failed", guest_fault="it refused the login")
    assert "to the guest's user" in (found(refused, "guest-not-readable").next_step)


def test_a_guest_that_names_another_entity_in_a_scan_has_no_certificate_of_its_own() -> None:
    named: dict[str, Any] = {"guest_fault_code": "guest-names-another-entity", "guest_fault": "it names another"}
    assert codes(facts(**named, link_active=False)) == ["guest-names-another-entity"]
    assert codes(facts(**named, **_AWAITS)) == ["awaiting-pickup"]


def test_a_guest_that_names_its_entity_of_before_has_only_not_picked_up_yet() -> None:
    own = replace(FAILED, guest_names="old", entities=frozenset({"old", "new"}))
    assert "guest-names-another-entity" not in codes(facts(own, ngt_uuid="new"))
    renewed = replace(FAILED, outcome="renewed", guest_names="another", entities=frozenset({"own"}))
    assert codes(facts(renewed)) == ["nothing-is-wrong"]


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ({"cvms": (CVM_DOWN, CvmState("10.0.0.32", True, NOW))}, None),
        ({"cvms": (CVM_DOWN,)}, "no CVM of it answers (10.0.0.31: timed"),
        ({"scan_fault": "Prism is down", "scan_fault_at": NOW - days(2)}, None),
        ({"scan_fault": "Prism is down", "scan_fault_at": NOW}, "Prism is down."),
    ],
)
def test_a_cluster_that_is_silent_now_is_told_and_one_that_was_is_not(
    cluster: dict[str, Any], told: str | None
) -> None:
    known = facts(cluster=ClusterFacts(**cluster))
    if told is None:
        assert codes(known) == ["nothing-is-wrong"]
    else:
        assert told in found(known, "cluster-not-reached").message


def test_a_link_over_the_serial_port_is_no_matter_while_the_certificate_is_good() -> None:
    assert codes(facts(communication_type="kSerialPort")) == ["nothing-is-wrong"]
    unknown = facts(communication_type="kSerialPort", certificate=None)
    assert codes(unknown) == ["certificate-date-unknown", "link-over-serial-port"]


# Whatever the facts are.

_flags = st.sampled_from([None, True, False])
_words = st.sampled_from([None, "one", "two"])
_times = st.none() | st.sampled_from([-2000, -21, -3, -0.2, 0, 0.1, 400]).map(lambda left: NOW + days(left))
_sources = st.sampled_from(list(CertificateSource))
_certificates = st.builds(
    KnownCertificateDates, _sources, _times.map(lambda at: at or NOW), _times.map(lambda at: at or NOW)
)
_vms = st.builds(
    VmFacts,
    vm_uuid=st.just(VM),
    cluster=st.just("c1"),
    name=_words,
    seen_at=_times,
    vanished_at=st.none() | _times,
    power=st.sampled_from(list(PowerState)),
    addresses=st.sampled_from([(), ("10.1.0.5",), ("10.1.0.5", "fd00::5")]),
    has_entity=_flags,
    ngt_uuid=_words,
    ngt_enabled=_flags,
    iso_mounted=_flags,
    link_active=_flags,
    communication_type=st.sampled_from([None, "kSerialPort", "kIPv4", "3"]),
    guest_fault_code=st.sampled_from([None, "guest-not-reached", "guest-names-another-entity", "a-word-of-tomorrow"]),
    guest_fault=_words,
    certificate=st.none() | _certificates,
    date_sources=st.frozensets(_sources),
    renewed_at=_times,
    awaiting_pickup_since=_times,
)
_jobs = st.builds(
    JobFacts,
    id=st.just(JOB),
    done=st.booleans(),
    message=st.text(max_size=20),
    outcome=st.sampled_from([None, "renewed", "unverified", "already_valid", "failed", "cancelled"]),
    wait_reason=st.none() | st.sampled_from(list(WaitReason)),
    error_code=st.none() | st.sampled_from(list(FaultCode)),
    error_message=_words,
    remaining_action=st.none() | st.text(max_size=20),
    finished_at=_times,
    stranded=st.booleans(),
    delete_begun=st.booleans(),
    issued=st.booleans(),
    guest_names=_words,
    entities=st.frozensets(st.sampled_from(["one", "two"])),
    guest_address=st.sampled_from([None, "10.1.0.5", "10.1.0.9"]),
)
_cvms = st.builds(CvmState, st.just("10.0.0.31"), st.booleans(), st.just(NOW), fault=_words)
_clusters = st.builds(
    ClusterFacts,
    mode=st.sampled_from(list(Mode)),
    restart_agent=st.sampled_from(list(RestartAgent)),
    accept_unverified=st.booleans(),
    guest_access=st.booleans(),
    cvms=st.lists(_cvms, max_size=2).map(tuple),
    scan_fault=_words,
    scan_fault_at=_times,
    paused_at=_times,
    pause_reason=_words,
)
_failures = st.builds(Failure, st.sampled_from(list(FaultCode)), st.text(max_size=20))
_facts = st.builds(Facts, _vms, _clusters, st.none() | _jobs, st.none() | _failures, _times, _words)


@given(_facts)
def test_a_diagnosis_never_contradicts_itself(known: Facts) -> None:
    diagnosis = diagnose(known, NOW)
    said = [finding.code for finding in diagnosis.findings]
    severities = [finding.severity for finding in diagnosis.findings]
    assert said
    assert len(said) == len(set(said))
    assert severities == sorted(severities, key=list(Severity).index)
    assert diagnosis.healthy == (not {Severity.ERROR, Severity.WARNING} & set(severities))
    assert diagnosis.healthy == ("nothing-is-wrong" in said)
    assert diagnose(known, NOW) == diagnosis
    for finding in diagnosis.findings:
        assert finding.message
        assert finding.next_step.strip(), finding.code
        assert not {"{vm_uuid}", "{cluster}"} & set(finding.next_step.split("`"))
        assert finding.call is None or FINDINGS[finding.code].call is not None


@given(_facts)
def test_only_what_was_seen_to_work_is_called_healthy(known: Facts) -> None:
    vm = known.vm
    if not diagnose(known, NOW).healthy:
        return
    assert vm.seen_at is not None
    assert vm.vanished_at is None
    assert (vm.link_active, vm.has_entity is not False, vm.ngt_enabled is not False) == (True, True, True)
    assert vm.certificate is not None
    assert vm.certificate.source is not COMPUTED
    assert vm.certificate.not_after > NOW


@given(_facts)
def test_a_call_is_one_that_can_be_made_now(known: Facts) -> None:
    job = known.job
    is_open = job is not None and not job.done
    for finding in diagnose(known, NOW).findings:
        if finding.call is None:
            continue
        path = finding.call.path
        assert path in {RENEW, RETRY, RESTARTED}
        assert (path == RESTARTED) == is_open
        assert path != RENEW or FINDINGS[finding.code].call is not CallKind.AGENT_RESTARTED
        members = dict(finding.call.body)
        assert len(members) == len(finding.call.body)
        if path == RENEW:
            assert ("create_if_absent" in members) == (known.vm.has_entity is False or known.vm.ngt_enabled is False)
            assert ("when_powered_off" in members) == (known.vm.power is PowerState.OFF)


@given(_facts)
def test_the_causes_of_a_missing_entity_exclude_each_other(known: Facts) -> None:
    absent = {"vm-vanished", "vm-stranded", "entity-deleted-by-renewal", "entity-gone", "clone-without-entity",
              "ngt-not-enabled"}  # fmt: skip
    told = absent & set(codes(known))
    if known.vm.has_entity is False:
        assert len(told - {"vm-vanished", "vm-stranded"}) <= 1
        assert told
    assert not (told and "link-not-active" in codes(known))
