"""What an operator may allow the service to do by itself, and each refusal in one sentence."""

from pathlib import Path

import pytest

from app.settings import AutoRenew, Settings, SettingsError, load_settings
from app.work.doctor import examine

CLUSTER = """
[clusters.c1]
cvms = ["10.0.0.31"]
key_file = "{folder}/key"
known_hosts = "{folder}/key"
"""
GUESTS = """
[[clusters.c1.guests]]
addresses = ["10.1.0.0/16"]
username = "ngt"
key_file = "{folder}/key"
known_hosts = "{folder}/key"
"""
WHERE = "clusters.c1.auto_renew"


def load(folder: Path, auto_renew: str, cluster: str = "", *, guests: bool = True) -> Settings:
    (folder / "key").touch(mode=0o600)
    text = CLUSTER + cluster + (GUESTS if guests else "") + "\n[clusters.c1.auto_renew]\n" + auto_renew
    path = folder / "ngt-renewal.toml"
    path.write_text(text.replace("{folder}", str(folder)), "utf-8")
    return load_settings(path, {})


def refusals(folder: Path, auto_renew: str, cluster: str = "", *, guests: bool = True) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(folder, auto_renew, cluster, guests=guests)
    return list(refused.value.faults)


def test_it_is_off_by_default() -> None:
    rules = AutoRenew()
    assert (rules.enabled, rules.before_days, rules.at_most_per_day, rules.at_most_at_once) == (False, 60, 20, 2)
    assert (rules.windows, rules.restart_agent, rules.include, rules.exclude) == ((), None, (), ())
    assert rules.stop_after_failures == 3


def test_what_an_operator_writes_is_accepted(tmp_path: Path) -> None:
    written = """
    enabled = true
    before_days = 45
    at_most_per_day = 30
    at_most_at_once = 3
    restart_agent = "ssh"
    include = ["web-*", "db-*"]
    exclude = ["*-old"]
    stop_after_failures = 5
    [[clusters.c1.auto_renew.windows]]
    cron = "0  22 * * 1-5"
    duration_minutes = 240
    time_zone = "Europe/Berlin"
    [[clusters.c1.auto_renew.windows]]
    cron = "0 6 * * sat"
    duration_minutes = 720
    """
    auto_renew = load(tmp_path, written).clusters["c1"].auto_renew
    assert [(window.cron, window.time_zone) for window in auto_renew.windows] == [
        ("0 22 * * 1-5", "Europe/Berlin"),
        ("0 6 * * sat", "UTC"),
    ]
    rules = auto_renew.rules(86400)
    assert (rules.before_days, rules.at_most_per_day, rules.at_most_at_once) == (45, 30, 3)
    assert (rules.include, rules.exclude) == (("web-*", "db-*"), ("*-old",))
    assert str(rules.windows[0]) == "window 0 22 * * 1-5 for 240 min Europe/Berlin"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("before_days = 0", f"`{WHERE}.before_days` is refused: input should be greater than or equal to 1 (it is 0)."),
        ("before_days = 1000", f"`{WHERE}.before_days` is refused: input should be less than 1000 (it is 1000)."),
        (
            "at_most_per_day = 0",
            f"`{WHERE}.at_most_per_day` is refused: input should be greater than or equal to 1 (it",
        ),
        ("stop_after_failures = 0", f"`{WHERE}.stop_after_failures` is refused: input should be greater than or equal"),
        (
            "at_most_at_once = 4",
            f"`{WHERE}.at_most_at_once` is refused: 4 is more than `max_running` allows, which is 3.",
        ),
        (
            "at_most_at_once = 3\nat_most_per_day = 2",
            f"`{WHERE}.at_most_at_once` is refused: 3 is more than `at_most_per_day` allows, which is 2.",
        ),
        (
            'include = ["web-*", " "]',
            f"`{WHERE}.include` is refused: an empty pattern matches no name; leave it out, or write",
        ),
        (
            'exclude = [""]',
            f"`{WHERE}.exclude` is refused: an empty pattern matches no name; leave it out, or write * for all.",
        ),
        ('exclude = ["*"]', f"`{WHERE}.exclude` is refused: * excludes every VM; set `enabled = false` instead."),
        ('restart_agent = "nobody"', f"`{WHERE}.restart_agent` is refused: input should be 'ssh' or 'manual'"),
        ("befor_days = 60", f"`{WHERE}.befor_days` is not a setting; did you mean `before_days`?"),
        (
            'windows = [{ cron = "0 22 * *", duration_minutes = 60 }]',
            f"`{WHERE}.windows[0].cron` is refused: it must have five fields: minute, hour, day of the month, ",
        ),
        (
            'windows = [{ cron = "0 25 * * *", duration_minutes = 60 }]',
            f"`{WHERE}.windows[0].cron` is refused: it is not a valid cron expression: [0 25 * * *] is not "
            "acceptable, out of range (it is '0 25 * * *').",
        ),
        (
            'windows = [{ cron = "0 22 * * *", duration_minutes = 0 }]',
            f"`{WHERE}.windows[0].duration_minutes` is refused: input should be greater than or equal to 1 (it is 0).",
        ),
        (
            'windows = [{ cron = "0 22 * * *", duration_minutes = 60, time_zone = "Europe/Atlantis" }]',
            f'`{WHERE}.windows[0].time_zone` is refused: unknown time zone; use a name such as "UTC" or '
            "\"Europe/Berlin\" (it is 'Europe/Atlantis').",
        ),
        (
            'windows = [{ cron = "0 22 * * *", duration_minutes = 60, time_zone = "../../etc/passwd" }]',
            f'`{WHERE}.windows[0].time_zone` is refused: unknown time zone; use a name such as "UTC" or ',
        ),
        (
            'windows = [{ cron = "0 22 * * *", duration_minute = 60 }]',
            f"`{WHERE}.windows[0].duration_minute` is not a setting; did you mean `duration_minutes`?",
        ),
        (
            'windows = [{ cron = "0 22 30 2 *", duration_minutes = 60 }]',
            f"`{WHERE}.windows[0].cron` is refused: no date matches this cron line (it is '0 22 30 2 *').",
        ),
    ],
)
def test_rules_are_refused_in_one_sentence(tmp_path: Path, written: str, sentence: str) -> None:
    (said,) = [fault for fault in refusals(tmp_path, written) if not fault.endswith("duration_minutes` is missing.")]
    assert said.startswith(sentence)


def fault_of_windows(folder: Path, auto_renew: str) -> str | None:
    return load(folder, auto_renew).clusters["c1"].auto_renew.fault_of_windows()


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            'windows = [{ cron = "0 22 1 1,7 *", duration_minutes = 60 }]',
            "the windows of automatic renewals are closed for up to 184.0 days, as from 2024-07-01 to 2025-01-01, and "
            "`before_days` is 60",
        ),
        (
            'before_days = 900\nwindows = [{ cron = "0 22 29 2 *", duration_minutes = 60 }]',
            "the windows of automatic renewals are closed for up to 1461.0 days",
        ),
    ],
)
def test_windows_that_open_too_seldom_are_accepted_and_reported(tmp_path: Path, written: str, sentence: str) -> None:
    assert (fault_of_windows(tmp_path, written) or "").startswith(sentence)


async def test_the_doctor_warns_of_windows_that_open_too_seldom(tmp_path: Path) -> None:
    settings = load(tmp_path, 'enabled = true\nwindows = [{ cron = "0 22 1 1,7 *", duration_minutes = 60 }]')
    first = await anext(examine(settings))
    assert (first.where, first.good) == ("c1", None)
    assert first.what.startswith("the windows of automatic renewals are closed for up to 184.0 days")
    assert first.next_step == "Open the windows more often, or raise `before_days`."


def test_without_windows_nothing_is_closed(tmp_path: Path) -> None:
    assert fault_of_windows(tmp_path, "before_days = 1") is None


def test_two_seldom_windows_may_be_often_enough_together(tmp_path: Path) -> None:
    windows = ", ".join(f'{{ cron = "0 22 1 {month} *", duration_minutes = 60 }}' for month in ("*/3", "2-12/3"))
    assert fault_of_windows(tmp_path, f"before_days = 62\nwindows = [{windows}]") is None


def test_a_window_that_is_closed_for_less_than_before_days_is_good(tmp_path: Path) -> None:
    window = 'windows = [{ cron = "0 22 1 * *", duration_minutes = 60 }]'
    assert fault_of_windows(tmp_path, f"before_days = 31\n{window}") is None
    assert "closed for up to 31.0 days" in (fault_of_windows(tmp_path, f"before_days = 30\n{window}") or "")


def test_no_more_at_once_than_the_cluster_runs(tmp_path: Path) -> None:
    (said,) = refusals(tmp_path, "at_most_at_once = 2", "max_running = 1")
    assert said.endswith("2 is more than `max_running` allows, which is 1.")
    # Who does not say how many at once does not contradict anything.
    assert load(tmp_path, "enabled = true", "max_running = 1").clusters["c1"].auto_renew.enabled


def test_a_person_restarts_agents_of_automatic_renewals_only_where_that_is_written(tmp_path: Path) -> None:
    manual = 'restart_agent = "manual"'
    (said,) = refusals(tmp_path, "enabled = true", manual, guests=False)
    assert said == (
        f"`{WHERE}` is refused: on the cluster c1 a person restarts the agents, so each automatic renewal would "
        'wait for a person; write `restart_agent = "manual"` there too if that is intended.'
    )
    assert load(tmp_path, f"enabled = true\n{manual}", manual, guests=False).clusters["c1"].auto_renew.enabled
    # What it would do can be read before it is switched on.
    assert not load(tmp_path, "enabled = false", manual, guests=False).clusters["c1"].auto_renew.enabled
    # By SSH where there is a way, although people restart the agents of the renewals that people ask for.
    assert load(tmp_path, 'enabled = true\nrestart_agent = "ssh"', manual).clusters["c1"].auto_renew.enabled


def test_nothing_restarts_agents_over_ssh_without_a_way_into_the_guests(tmp_path: Path) -> None:
    said = refusals(tmp_path, 'restart_agent = "ssh"', 'restart_agent = "manual"', guests=False)
    assert said == [
        f"`{WHERE}.restart_agent` is refused: the cluster c1 has no `guests` table with SSH access to guests."
    ]


def test_all_faults_of_values_are_told_at_once_and_contradictions_after_them(tmp_path: Path) -> None:
    assert len(refusals(tmp_path, 'at_most_at_once = 9\nbefore_days = 0\ninclude = [""]')) == 2
    assert len(refusals(tmp_path, "at_most_at_once = 9\nat_most_per_day = 8")) == 2


def test_the_check_of_windows_is_the_same_on_every_day(tmp_path: Path) -> None:
    """It looks from a fixed day on, over a leap year."""
    windows = (
        'windows = [{ cron = "0 22 28 2 *", duration_minutes = 60 }, { cron = "0 22 28 8 *", duration_minutes = 60 }]'
    )
    assert "closed for up to 184.0 days" in (fault_of_windows(tmp_path, f"before_days = 180\n{windows}") or "")
    assert fault_of_windows(tmp_path, f"before_days = 185\n{windows}") is None
