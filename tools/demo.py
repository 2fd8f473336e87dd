"""Shows the service at work: a simulated cluster, the service on its embedded database, a scan, and one VM renewed.

python tools/demo.py          scans, renews what expires next, prints what happened, stops; 0 only if it was renewed
python tools/demo.py --keep   keeps the service and the cluster up to try things by hand, until Ctrl-C
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
EXPIRING_NEXT = "/vms?expired=false&limit=5"
SCOPES = "vms:read,jobs:read,renew,jobs:cancel,clusters:scan,admin"
START_LIMIT_S = 60.0
SCAN_LIMIT_S = 60.0
RENEW_LIMIT_S = 60.0
KEPT_PORT = 8080
# Nothing here leaves this machine, so a proxy of the environment is never asked.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoFailed(Exception):
    """One sentence for the person who ran the demo."""


def main() -> int:
    """Runs the demo; 0 only if the VM was renewed (or, with --keep, when everything was stopped by hand)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", action="store_true", help="keep everything up to try by hand")
    port_help = f"the service's port where it is free; else any other, or {KEPT_PORT} to keep"
    parser.add_argument("--port", type=int, default=0, help=port_help)
    options = parser.parse_args()
    port = free_port(options.port or (KEPT_PORT if options.keep else 0))
    # PostgreSQL does not run as root, so its folder must be where another user may go.
    folder = Path(tempfile.mkdtemp(prefix="ngt-renewal-demo-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with running_site(folder) as configuration, running_service(folder, configuration, port) as key:
            url = f"http://127.0.0.1:{port}"
            if options.keep:
                vms = json.loads((folder / "site" / "simulated.json").read_text(encoding="utf-8"))["vms"]["c1"]
                return keep(url, key, vms)
            return show(url, key)
    except DemoFailed as failed:
        print(f"\nThe demo failed: {failed}", file=sys.stderr)
        for log in sorted(folder.glob("*.log")):
            last_lines = log.read_text(errors="replace").splitlines()[-15:]
            print(f"--- the end of {log.name}", *last_lines, sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 0 if options.keep else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port(wanted: int = 0) -> int:
    """The wanted port of loopback, else any other that nobody has just now."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_site(folder: Path) -> Iterator[Path]:
    """The simulated cluster; gives the configuration file that the service is started with."""
    say("starting a simulated cluster: 3 CVMs and a dozen VMs behind real SSH")
    site = folder / "site"
    with process(folder / "simulator.log", "simulate", "--directory", str(site)) as simulator:
        wait_for((site / "simulated.json").exists, simulator, "the simulated cluster")
        configuration = folder / "ngt-renewal.toml"
        clusters = (site / "simulated.toml").read_text(encoding="utf-8")
        configuration.write_text(f'data_dir = "{folder / "data"}"\nlog_format = "text"\n\n{clusters}', encoding="utf-8")
        yield configuration


@contextlib.contextmanager
def running_service(folder: Path, configuration: Path, port: int) -> Iterator[str]:
    """The service; gives an API key for it."""
    say("starting the service, on its embedded PostgreSQL")
    environment = {"NGT_RENEWAL_PORT": str(port)}
    with process(folder / "service.log", "serve", "--config", str(configuration), **environment) as service:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), service, "the service")
        say("making an API key, on the host")
        command = [sys.executable, "-m", "app", "keys", "create", "--config", str(configuration)]
        made = subprocess.run(
            [*command, "--scopes", SCOPES, "--description", "demo"],
            cwd=ROOT, env=environment_of(), check=False, capture_output=True, text=True, timeout=START_LIMIT_S,
        )  # fmt: skip
        if made.returncode != 0:
            raise DemoFailed(f"no API key could be made: {made.stderr.strip()}")
        yield made.stdout.strip()


@contextlib.contextmanager
def process(log: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m app …`, stopped by SIGTERM when the block is left."""
    with log.open("wb") as output:
        started = start(output, *arguments, **environment)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(timeout=START_LIMIT_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def start(output: IO[bytes], *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT, env={**environment_of(), **environment}, stdout=output, stderr=output, start_new_session=True,
    )  # fmt: skip


def environment_of() -> dict[str, str]:
    """Our environment without what would send the demo to a real database or a real cluster."""
    ours = ("NGT_RENEWAL_", "DATABASE_URL", "PUBLIC_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def wait_for(ready: Callable[[], bool], started: subprocess.Popen[bytes], name: str) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while not ready():
        if started.poll() is not None:
            raise DemoFailed(f"{name} ended with status {started.returncode} before it was ready.")
        if time.monotonic() > limit:
            raise DemoFailed(f"{name} was not ready within {START_LIMIT_S:.0f} s.")
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with DIRECTLY.open(url, timeout=5) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - OK
    except OSError:
        return False


def call(method: str, url: str, key: str) -> dict[str, Any]:
    """One request; a problem becomes a sentence."""
    request = urllib.request.Request(url, method=method, headers={"X-API-Key": key})  # noqa: S310 - our own service
    try:
        with DIRECTLY.open(request, timeout=30) as answer:
            body: dict[str, Any] = json.load(answer)
            return body
    except urllib.error.HTTPError as refused:
        problem = json.load(refused)
        raise DemoFailed(f"{method} {url} answered {refused.code}: {problem.get('detail')}") from refused


def show(url: str, key: str) -> int:
    """Scans the cluster, renews the certificate that expires next, and shows that it does so no more."""
    scan(url, key)
    vms = expiring_next(url, key)
    if not vms:
        raise DemoFailed("the scan saw no certificate.")
    first = vms[0]
    renew(url, key, first["vm_uuid"], first["name"])
    if any(vm["vm_uuid"] == first["vm_uuid"] for vm in expiring_next(url, key)):
        raise DemoFailed(f"{first['name']} is still among the certificates that expire next.")
    print("\nTo do it yourself: `make run`, then")
    print_curl("$URL", "$KEY", first["vm_uuid"])
    return 0


def scan(url: str, key: str) -> None:
    """Looks at all VMs of the cluster, and says what was seen."""
    print("\n  POST /clusters/c1/scan\n")
    started = call("POST", f"{url}/clusters/c1/scan", key)
    limit = time.monotonic() + SCAN_LIMIT_S
    while not started["done"]:
        if time.monotonic() > limit:
            raise DemoFailed(f"the scan was not done within {SCAN_LIMIT_S:.0f} s: {started['message']}")
        started = call("GET", f"{url}/scans/{started['id']}?wait=10", key)
    if started["outcome"] != "complete":
        raise DemoFailed(f"the scan saw only a part: {started['message']}")
    print("  " + started["message"].replace("; ", ";\n  "))


def expiring_next(url: str, key: str) -> list[dict[str, Any]]:
    """The five certificates that expire next, printed too."""
    print(f"\n  GET {EXPIRING_NEXT}\n")
    vms: list[dict[str, Any]] = call("GET", f"{url}{EXPIRING_NEXT}", key)["items"]
    for vm in vms:
        print(f"  {vm['not_after']}  in {vm['days_left']:>3} days  {vm['certificate_source']:<18} {vm['name']}")
    return vms


def renew(url: str, key: str, vm_uuid: str, vm_name: str) -> None:
    """Starts the renewal and prints each step as it happens."""
    print(f"\n  POST /vms/{vm_uuid}/ngt/renew        ({vm_name})\n")
    job = call("POST", f"{url}/vms/{vm_uuid}/ngt/renew", key)
    shown = 0
    limit = time.monotonic() + RENEW_LIMIT_S
    while True:
        ended = [step for step in job.get("steps", []) if step["status"] != "running"]
        for step in ended[shown:]:
            name, status, took_ms = step["name"], step["status"], step.get("duration_ms", 0)
            print(f"  {name:<22}{status:<11}{took_ms:>5} ms  {step.get('result_vec', ''):<9} {step.get('message', '')}")
        shown = len(ended)
        if job["done"]:
            break
        if time.monotonic() > limit:
            stands = f"it is {job['status']}: {job['message']}"
            raise DemoFailed(f"the job was not done within {RENEW_LIMIT_S:.0f} s; {stands}")
        time.sleep(0.05)
        job = call("GET", f"{url}/jobs/{job['id']}", key)
    print(f"\n  outcome     {job['outcome']}, verified by {job.get('verified_by', 'nothing')}")
    for when, age in (("before", "old"), ("now", "new")):
        not_after, serial = job.get(f"{age}_not_after", "unknown"), job.get(f"{age}_serial", "unknown")
        print(f"  {when:<12}valid until {not_after}   serial {serial}")
    if job["outcome"] != "renewed":
        raise DemoFailed(f"{job.get('error_code')}: {job['message']}")


def print_curl(url: str, key: str, vm_uuid: str) -> None:
    print(f"""
  curl -X POST -H "X-API-Key: {key}" {url}/clusters/c1/scan
  curl -H "X-API-Key: {key}" "{url}/vms?expires_within_days=30"
  curl -H "X-API-Key: {key}" {url}/vms/{vm_uuid}/ngt/diagnosis
  curl -X POST -H "X-API-Key: {key}" {url}/vms/{vm_uuid}/ngt/renew
  curl -H "X-API-Key: {key}" {url}/jobs/<id>
  curl -H "X-API-Key: {key}" {url}/jobs/<id>/result
  curl -H "X-API-Key: {key}" {url}/jobs/<id>/log
""")


def keep(url: str, key: str, vms: dict[str, str]) -> int:
    """Prints what can be tried, and waits for Ctrl-C."""
    print(f"\n  The service is at {url}, its documentation at {url}/docs\n  export URL={url} KEY={key}")
    print(f"  export VM={next(iter(vms))}\n")
    for uuid, name in vms.items():
        print(f"  {uuid}  {name}")
    print_curl("$URL", "$KEY", "$VM")
    print("Ctrl-C stops everything.", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.pause()
    return 0


def say(what: str) -> None:
    print(f"- {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
