"""The measurements as a Markdown table, each aim beside what was measured."""

import os
import platform
from collections.abc import Iterable
from statistics import median

from tests.bench.measure import AT_A_TIME, Pair, Race, Turn, Waiting
from tests.bench.polls import JOBS, POLLS, Polls
from tests.bench.scans import Scanned
from tests.bench.scrape import CLUSTERS, VMS, Scrapes

Row = tuple[str, str, str, str]


def write_report(race: Race, waiting: Waiting, polls: Polls, more: Iterable[Row], ansible: str, load: str) -> str:
    """The whole page; `more` are the rows of what was measured beside renewals."""
    turns = [pair.service for pair in race.free]
    loops = [pair.loop for pair in race.free]
    rows = [
        _speed_row("Renewals/s, tools that cost nothing", race.free, "≥ 0.7"),
        _speed_row("Renewals/s, CLI 0.1 s and ncli 2 s", race.slow, "≥ 0.95"),
        (
            "CPU per renewal",
            f"{_each_ms(turns, 'service_s'):.0f} ms, and PostgreSQL {_each_ms(turns, 'postgres_s'):.0f} ms",
            f"{_each_ms(loops, 'own_s'):.0f} ms",
            "service ≤ 15 ms",
        ),
        ("POST to the first text for a CVM, p50", f"{race.first_sent_ms:.0f} ms", "", "≤ 30 ms"),
        ("Texts to a CVM per renewal", _each(turns, "texts"), _each(loops, "texts"), "the same"),
        ("Texts to a guest per renewal", _each(turns, "guest_texts"), _each(loops, "guest_texts"), "the same"),
        ("SSH logins to the CVM while measured", _sum([*race.free, *race.slow]), "0", "none: one at the start"),
        ("Memory (RSS), idle", f"{race.idle_mib:.0f} MiB", "", ""),
        (f"Memory after {_renewals(race)} renewals", f"{race.after_mib:.0f} MiB", "", ""),
        (f"Memory with {waiting.jobs:,} waiting jobs", f"{waiting.waiting_mib:.0f} MiB", "", ""),
        (f"CPU with {waiting.jobs:,} waiting jobs", f"{waiting.cpu_s_per_minute:.1f} s per minute", "", ""),
        *_poll_rows(polls),
        *more,
    ]
    table = ["| | service | bare loop | aim |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([_head(race, load), *table, "", ansible, "", *_turns_table(race), ""])


def rows_of_scan(scan: Scanned, *, again: bool) -> list[Row]:
    """The rows of what was measured of a scan."""
    many = f"{scan.clusters} clusters of {scan.vms:,} VMs" if scan.clusters > 1 else f"a cluster of {scan.vms:,} VMs"
    spent = f"CPU {scan.cpu.service_s:.1f} s, and PostgreSQL {scan.cpu.postgres_s:.1f} s"
    memory = f"at most {scan.peak_mib - scan.before_mib:.0f} MiB more, {scan.peak_mib:.0f} MiB in all"
    stop = f"longest answer to `/livez` {scan.stop_ms:.0f} ms (without: {scan.idle_ms:.0f} ms)"
    aim = "CPU ≤ 3 s, ≤ 150 MiB more" if scan.clusters == 1 else "≤ 150 MiB more"
    name = "The same scan again" if again else f"Scan of {many}, 5 KB each in the listing"
    return [(name, f"{scan.seconds:.1f} s; {spent}; {memory}; {stop}", "", aim)]


def _head(race: Race, load: str) -> str:
    renewals = sum(pair.service.renewals for pair in race.free)
    return f"""# Benchmark

`make bench` writes this page. {renewals} renewals through the whole service, from POST to done, on its embedded
PostgreSQL, beside a bare asyncssh loop that sends the same texts and keeps nothing; {AT_A_TIME} at a time, {AT_A_TIME}
sessions on one connection to the CVM, in turns (service, loop, service, loop …). The CVM is OpenSSH's `sshd` with the
simulator's tools, the guests are simulated; all of it, and the client, share this machine: {os.cpu_count()} cores,
{platform.machine()}, Linux {platform.release().split("-")[0]}, Python {platform.python_version()}.
Load average before: {load}.
"""


def _speed_row(name: str, pairs: list[Pair], aim: str) -> tuple[str, str, str, str]:
    service = median(pair.service.per_second for pair in pairs)
    loop = median(pair.loop.per_second for pair in pairs)
    ratio = median(pair.ratio for pair in pairs)
    return name, f"{service:.1f} (**{ratio:.2f}** of the loop)", f"{loop:.1f}", aim


def _poll_rows(polls: Polls) -> list[tuple[str, str, str, str]]:
    idle, without = polls.idle, polls.without
    spent = f"{idle.service_s:.1f} s per minute, and PostgreSQL {idle.postgres_s:.1f} s"
    return [
        (
            f"{POLLS} long polls on {JOBS} jobs, from a job's end to its answers, p50 and p99",
            f"{polls.p50_ms:.0f} ms and {polls.p99_ms:.0f} ms",
            "",
            "≤ 200 ms",
        ),
        (
            f"CPU while {POLLS} long polls wait",
            f"{spent} (without them {without.service_s:.1f} s and {without.postgres_s:.1f} s)",
            "",
            "the same as without",
        ),
    ]


def rows_of_scrapes(scrapes: Scrapes) -> list[Row]:
    """The rows of what was measured of scrapes."""
    rows: list[Row] = []
    for scrape, what in ((scrapes.per_vm, "a series for each"), (scrapes.counts, "`metrics_per_vm = false`")):
        spent = f"CPU {scrape.cpu.service_s:.2f} s, and PostgreSQL {scrape.cpu.postgres_s:.2f} s"
        memory = f"at most {scrape.peak_mib - scrape.before_mib:.0f} MiB more"
        size = f"{scrape.size / 2**20:.2f} MiB, compressed {scrape.compressed_size / 2**20:.2f} MiB"
        said = f"{scrape.wall_s:.2f} s (shared: {scrape.shared_s * 1000:.0f} ms); {spent}; {memory}; {size}"
        rows += [
            (f"Scrape of {VMS:,} VMs on {CLUSTERS} clusters, {what}", said, "", ""),
            (
                "Longest answer to `/livez` meanwhile",
                f"{scrape.stop_ms:.0f} ms (without: {scrape.idle_ms:.0f} ms)",
                "",
                "the same as without",
            ),
        ]
    return rows


def _each_ms(turns: list[Turn], name: str) -> float:
    return float(median(getattr(turn, name) / turn.renewals for turn in turns)) * 1000


def _each(turns: list[Turn], name: str) -> str:
    each = sum(getattr(turn, name) for turn in turns) / sum(turn.renewals for turn in turns)
    return f"{each:.2f}".rstrip("0").rstrip(".")


def _sum(pairs: list[Pair]) -> str:
    return str(sum(pair.service.cvm_logins for pair in pairs))


def _renewals(race: Race) -> int:
    return sum(pair.service.renewals for pair in [*race.free, *race.slow])


def _turns_table(race: Race) -> list[str]:
    lines = ["| turn | tools | service/s | loop/s | ratio |", "|---|---|---|---|---|"]
    for tools, pairs in (("free", race.free), ("slow", race.slow)):
        for number, pair in enumerate(pairs, 1):
            speeds = f"{pair.service.per_second:.2f} | {pair.loop.per_second:.2f} | {pair.ratio:.2f}"
            lines.append(f"| {number} | {tools} | {speeds} |")
    return lines
