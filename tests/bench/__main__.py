"""The whole measurement, printed and written to docs/bench.md. It takes about eight minutes on two cores."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tests.bench.ansible import measure_ansible
from tests.bench.measure import memory, race
from tests.bench.polls import measure_polls
from tests.bench.report import Row, rows_of_scan, rows_of_scrapes, write_report
from tests.bench.scans import SITES, measure_scans
from tests.bench.scrape import measure_scrapes
from tests.bench.site import ROOT
from tests.bench.vms import measure_vms, rows_of_vms


def main() -> None:
    """Measures with the sizes of the command line; the defaults are those of the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--renewals", type=int, default=200, help="by each contender")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each contender")
    parser.add_argument("--waiting", type=int, default=1000, help="waiting jobs, on ten clusters")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench.md")
    options = parser.parse_args()
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    with _folder() as folder:
        raced = uvloop.run(race(folder, renewals=options.renewals, pairs=options.pairs))
    with _folder() as folder:
        ansible = measure_ansible(folder)
    with _folder() as folder:
        waiting = uvloop.run(memory(folder, clusters=10, vms=options.waiting // 10))
    with _folder() as folder:
        polls = uvloop.run(measure_polls(folder))
    more: list[Row] = []
    for clusters, vms in SITES:
        with _folder() as folder:
            scans = uvloop.run(measure_scans(folder, clusters=clusters, vms=vms))
            more += (row for number, scanned in enumerate(scans) for row in rows_of_scan(scanned, again=number > 0))
    with _folder() as folder:
        more += rows_of_vms(uvloop.run(measure_vms(folder)))
    with _folder() as folder:
        more += rows_of_scrapes(uvloop.run(measure_scrapes(folder)))
    report = write_report(raced, waiting, polls, more, ansible, load)
    options.output.write_text(report, encoding="utf-8")
    sys.stdout.write(report)


@contextmanager
def _folder() -> Iterator[Path]:
    # PostgreSQL does not run as root, so its folder must be where another user may go.
    folder = Path(tempfile.mkdtemp(prefix="ngt-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
