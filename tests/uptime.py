"""This machine's uptime: that of every simulated CVM, and of OpenSSH's servers."""

from pathlib import Path

from app.ngt.tools.query_commands import CvmUptime


def uptime() -> CvmUptime:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    return CvmUptime(boot_id, float(Path("/proc/uptime").read_text().split()[0]))
