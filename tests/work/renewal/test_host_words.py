"""What a host says when it refuses is told with its meaning, and past the mount every refusal is tried again."""

import pytest

from app.simulator.faults import Said
from app.simulator.spec import uniform_site
from tests.work.conftest import Begin
from tests.work.service import Service, shown, steps_of

_EXPIRED = b"Password change required but no TTY available.\n"
_STARTING = b"System is booting up. Unprivileged users are not permitted to log in yet. See pam_nologin(8).\n"


def _let_cvms_say(service: Service, said: Said) -> None:
    for cvm in service.site.cvms["c1"]:
        cvm.faults.says.append(said)


@pytest.mark.field("B4")
async def test_an_expired_password_on_a_cvm_is_told_and_is_not_a_menu(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    _let_cvms_say(service, Said("", b"", _EXPIRED, 1))
    job = await service.renewed("vm0001")
    assert job.error_code == "ssh-auth-failed", shown(job)
    assert job.error_message is not None
    assert _EXPIRED.decode().strip() in job.error_message
    assert "For the operator of this service: change the password" in job.error_message


@pytest.mark.field("B4")
async def test_an_unknown_answer_to_the_probe_is_told_in_its_own_words(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    _let_cvms_say(service, Said("", b"Hello from a strange shell\n", b"", 7))
    job = await service.renewed("vm0001")
    assert job.error_code == "unexpected-output", shown(job)
    assert "ended with status 7: it says: Hello from a strange shell" in (job.error_message or "")


@pytest.mark.field("B9")
async def test_a_look_whose_answer_lacks_its_end_is_told_in_words(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1))
    _let_cvms_say(
        service, Said("query_vm_tools_entities", b"vm_info_vec {\n}\nngtr-look end 0 1\nGood bye!\n", b"x", 0)
    )
    job = await service.renewed("vm0001")
    assert job.error_code == "unexpected-output", shown(job)
    assert "the login shell prints something at its end" in (job.error_message or "")
    assert "Good bye!" in (job.error_message or "")


@pytest.mark.parametrize(
    ("said", "status"),
    [(_STARTING, 254), (b"sudo: a password is required\n", 1), (_EXPIRED, 1), (b"Unit x.service not found.\n", 5)],
)
@pytest.mark.field("B5")
async def test_a_restart_that_is_refused_for_a_while_is_tried_until_it_succeeds(
    begin: Begin, said: bytes, status: int
) -> None:
    service = await begin(uniform_site(vms=1), limits={"verify_timeout_ssh_s": 900})
    faults = service.site.guests[service.uuid_of("vm0001")].faults
    faults.says.append(Said("systemctl restart", b"", said, status))
    job = await service.renew("vm0001")
    # More often than a person would wait for.
    job = await service.wait_until(job, lambda now: now.wait_reason == "guest_unreachable" and now.version > 30)
    assert not job.done, shown(job)
    assert said.decode().strip() in job.message
    faults.says.clear()
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
    assert steps_of(done)["restart_agent"].status == "succeeded"


@pytest.mark.field("B5")
async def test_a_guest_that_boots_lets_nobody_in_and_is_asked_again(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1), limits={"verify_timeout_ssh_s": 900})
    guest = service.site.guests[service.uuid_of("vm0001")]
    guest.faults.says.append(Said("systemctl restart", b"", b"sudo: a password is required\n", 1))
    job = await service.renew("vm0001")
    await service.waits(job, "guest_unreachable")
    guest.banner, guest.faults.login_refused = _STARTING.decode(), True
    guest.cut_all()
    job = await service.wait_until(job, lambda now: "lets nobody in for now" in now.message)
    assert _STARTING.decode().strip() in job.message
    guest.banner, guest.faults.login_refused = "", False
    guest.faults.says.clear()
    done = await service.done(job, 120)
    assert done.outcome == "renewed", shown(done)


@pytest.mark.field("B5")
async def test_after_the_mount_any_failure_can_be_retried(begin: Begin) -> None:
    service = await begin(uniform_site(vms=1), limits={"verify_timeout_ssh_s": 2})
    faults = service.site.guests[service.uuid_of("vm0001")].faults
    faults.says.append(Said("systemctl restart", b"", _EXPIRED, 1))
    job = await service.renewed("vm0001")
    assert job.error_code == "ssh-auth-failed", shown(job)
    faults.says.clear()
    await service.jobs.retry(job.id)
    done = await service.done(job)
    assert done.outcome == "renewed", shown(done)
