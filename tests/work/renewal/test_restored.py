"""A backup that is restored: jobs of the past do nothing to a VM that was renewed since."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from app.simulator.faults import Does, ToolFault
from app.simulator.spec import uniform_site
from app.store.backup import BackupError, restore_backup, write_backup
from app.store.records.jobs import JobStatus
from tests.work.conftest import Begin
from tests.work.service import opened, shown


@pytest.mark.field("E8")
async def test_a_renewal_that_ended_after_the_backup_is_not_done_again(
    begin: Begin, empty_database_url: str, tmp_path: Path
) -> None:
    limits = {"delete_timeout_s": 20, "create_timeout_s": 20}
    service = await begin(uniform_site(vms=2), limits=limits, max_running=1, with_worker=False)
    service.site.order(ToolFault(does=Does.SLOW, sub_command="create_vm_tools_entity", seconds=8))
    file = tmp_path / "backup"
    async with service.at_work():
        begun, queued = await service.renew("vm0001"), await service.renew("vm0002")
        async with asyncio.timeout(60):
            while True:
                if service.site.journal.calls("create_vm_tools_entity"):
                    break
                await asyncio.sleep(0.05)
        await asyncio.to_thread(write_backup, service.store.database.url, file)
        for job in (begun, queued):
            assert (await service.done(job)).outcome == "renewed"
    assert file.stat().st_mode & 0o077 == 0

    assert await asyncio.to_thread(restore_backup, empty_database_url, file) == 1
    async with opened(service.settings, empty_database_url, service.site) as restored, restored.at_work():
        pause = (await restored.store.pauses.state()).pause
        assert pause is not None
        assert pause.paused_by == "restore"
        ended = await restored.find(queued.id)
        assert (ended.status, ended.done) == (JobStatus.CANCELLED, True)
        await restored.store.pauses.resume()
        job = await restored.done(begun)
        assert job.outcome == "renewed", shown(job)
    for vm in ("vm0001", "vm0002"):
        assert len(service.site.journal.calls("delete_vm_tools_entity", vm_uuid=service.uuid_of(vm))) == 1
        assert service.is_renewed(vm)


@pytest.mark.field("E8")
@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_a_file_that_is_damaged_changes_nothing(
    database_url: str, empty_database_url: str, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "backup"
    write_backup(database_url, file)
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        case "text":
            file.write_text("not a backup")
        case _:
            file.unlink()
    with pytest.raises(BackupError):
        restore_backup(empty_database_url, file)
    with psycopg.connect(empty_database_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)


@pytest.mark.field("E8")
def test_a_database_with_tables_is_not_overwritten(database_url: str, tmp_path: Path) -> None:
    write_backup(database_url, tmp_path / "backup")
    with pytest.raises(BackupError, match="has tables already: restore into an empty one"):
        restore_backup(database_url, tmp_path / "backup")
    with pytest.raises(BackupError, match="cannot be written: No such file or directory"):
        write_backup(database_url, tmp_path / "nowhere" / "backup")
