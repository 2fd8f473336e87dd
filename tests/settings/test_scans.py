from pathlib import Path

import pytest

from app.settings import SettingsError, load_settings
from app.settings.scans import ScanSettings


def loaded(tmp_path: Path, toml: str = "", **environ: str) -> ScanSettings:
    path = tmp_path / "ngt-renewal.toml"
    path.write_text(f"[scan]\n{toml}")
    return load_settings(path, environ).scan


def test_scans_are_at_night_unless_something_else_is_said(tmp_path: Path) -> None:
    scan = loaded(tmp_path)
    assert (scan.schedule, scan.time_zone, scan.jitter_s) == ("0 2 * * *", "UTC", 3600)


@pytest.mark.parametrize("schedule", ["off", "*/30 * * * *", "15 1-3 * * mon-fri", "0 2 L * *", "0 0 29 2 *"])
def test_every_schedule_of_five_fields_is_taken(tmp_path: Path, schedule: str) -> None:
    assert loaded(tmp_path, f'schedule = "{schedule}"\ntime_zone = "Europe/Berlin"').schedule == schedule


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ('schedule = "nightly"', "`scan.schedule` is refused: it must have five fields: minute, hour"),
        ('schedule = ""', "`scan.schedule` is refused: it must have five fields: minute, hour"),
        ('schedule = "0 2 * * * *"', "`scan.schedule` is refused: it must have five fields: minute, hour"),
        ('schedule = "R 2 * * *"', "`scan.schedule` is refused: it is not a valid cron expression"),
        ('schedule = "nightly"', 'write one such as "0 2 * * *", or "off"'),
        ('schedule = "61 2 * * *"', "is not acceptable, out of range"),
        ('schedule = "0 0 30 2 *"', "no date matches this cron line; write one such as"),
        ('time_zone = "Berlin"', "`scan.time_zone` is refused: unknown time zone"),
        ('time_zone = "../etc"', "`scan.time_zone` is refused: unknown time zone"),
        ('time_zone = ""', "`scan.time_zone` is refused: unknown time zone"),
        ("jitter_s = -1", "`scan.jitter_s` is refused"),
        ("clusters_at_once = 0", "`scan.clusters_at_once` is refused"),
        ("guest_timeout_s = 0", "`scan.guest_timeout_s` is refused"),
        ('shedule = "off"', "did you mean `schedule`?"),
    ],
)
def test_what_could_not_work_is_refused_at_start_with_the_reason(tmp_path: Path, toml: str, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        loaded(tmp_path, toml)
    assert reason in str(raised.value)


def test_scans_may_be_set_by_the_environment(tmp_path: Path) -> None:
    assert loaded(tmp_path, NGT_RENEWAL_SCAN__SCHEDULE="off").schedule == "off"
