from datetime import time
from pathlib import Path

import pytest

from app.settings import SettingsError, Warnings, load_settings


def load(tmp_path: Path, toml: str, **environ: str) -> Warnings:
    path = tmp_path / "ngt-renewal.toml"
    path.write_text(f"[warnings]\n{toml}")
    return load_settings(path, environ).warnings


def refused(tmp_path: Path, toml: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, toml, **environ)
    return str(raised.value)


def test_people_are_told_unless_said_otherwise(tmp_path: Path) -> None:
    warnings = load(tmp_path, "")
    assert (warnings.days_before, warnings.most_events_per_day) == ((60, 30, 14, 7, 1), 20)
    assert (warnings.digest_time, str(warnings.zone)) == (time(6), "UTC")


def test_all_of_it_can_be_chosen(tmp_path: Path) -> None:
    warnings = load(
        tmp_path, 'days_before = []\nmost_events_per_day = 0\ndigest_at = "23:59"\ntime_zone = "Europe/Berlin"\n'
    )
    assert (warnings.days_before, warnings.most_events_per_day) == ((), 0)
    assert (warnings.digest_time, str(warnings.zone)) == (time(23, 59), "Europe/Berlin")
    assert load(tmp_path, 'digest_at = "off"').digest_time is None
    # A time of TOML itself says the same.
    assert load(tmp_path, "digest_at = 07:30:00").digest_time == time(7, 30)


def test_the_environment_says_it_too(tmp_path: Path) -> None:
    environ = {"NGT_RENEWAL_WARNINGS__DAYS_BEFORE": "90,10", "NGT_RENEWAL_WARNINGS__DIGEST_AT": "off"}
    warnings = load(tmp_path, "", **environ)
    assert (warnings.days_before, warnings.digest_time) == ((90, 10), None)


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("days_before = [60, 30, 60]", "`warnings.days_before` is refused: 60 is listed twice."),
        (
            "days_before = [60, 0]",
            "`warnings.days_before` is refused: 0 is less than 1; expiry itself is always reported.",
        ),
        (
            "days_before = [1000]",
            "`warnings.days_before` is refused: 1000 is not less than 1000, the lifetime of a certificate.",
        ),
        (f"days_before = {list(range(1, 22))}", "`warnings.days_before` is refused: at most 20 numbers"),
        ("days_before = [1.5]", "`warnings.days_before[0]` is refused"),
        ("most_events_per_day = -1", "`warnings.most_events_per_day` is refused"),
        (
            'digest_at = "6:00"',
            '`warnings.digest_at` is refused: it must be a time of day such as "06:00", or "off" (it is \'6:00\').',
        ),
        ('digest_at = "24:00"', "`warnings.digest_at` is refused"),
        ("digest_at = 06:00:30", "`warnings.digest_at` is refused"),
        ("digest_at = 6", "`warnings.digest_at` is refused"),
        (
            'time_zone = "Europe/Berlinn"',
            '`warnings.time_zone` is refused: unknown time zone; use a name such as "UTC" or "Europe/Berlin" '
            "(it is 'Europe/Berlinn').",
        ),
        ('time_zone = "../UTC"', "`warnings.time_zone` is refused"),
        ('time_zone = "Europe"', "`warnings.time_zone` is refused"),
        ('digest = "06:00"', "`warnings.digest` is not a setting; did you mean `digest_at`?"),
    ],
)
def test_what_makes_no_sense_is_refused_at_start(tmp_path: Path, toml: str, sentence: str) -> None:
    assert sentence in refused(tmp_path, toml)


def test_a_number_of_days_that_is_none_is_refused_in_the_environment_too(tmp_path: Path) -> None:
    assert "`warnings.days_before[1]` is refused" in refused(tmp_path, "", NGT_RENEWAL_WARNINGS__DAYS_BEFORE="60,x")
