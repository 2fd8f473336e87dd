"""The simulated site as a process: to try the service by hand, and for tests that kill the service."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from app.simulator.control import Control
from app.simulator.site import Site
from app.simulator.spec import SiteSpec, demo_site, uniform_site

CONFIGURATION_FILE = "simulated.toml"
CONTROL_FILE = "simulated.json"


async def run_standalone(directory: Path, vms: int, cvms: int, clusters: int, announce: Callable[[str], None]) -> None:
    """Runs `clusters` equal clusters with `vms` VMs and `cvms` CVMs each, or the demo site where `vms` is 0."""
    spec = uniform_site(vms=vms, cvms=cvms, clusters=clusters) if vms else demo_site()
    await run_site(directory, spec, announce)


async def run_site(directory: Path, spec: SiteSpec, announce: Callable[[str], None]) -> None:
    """Runs a site until cancelled.

    Its configuration for the service is announced and written to `simulated.toml` in `directory`; the control port and
    the VMs' names are in `simulated.json`, which is written last, when everything listens.
    """
    async with Site.running(spec, directory) as site:
        control = Control(site)
        await control.start()
        try:
            configuration = site.settings_toml()
            (site.directory / CONFIGURATION_FILE).write_text(configuration)
            _write_whole(
                site.directory / CONTROL_FILE,
                {
                    "control_port": control.port,
                    "vms": {
                        name: {vm.uuid: vm.name for vm in cluster.vms.values()}
                        for name, cluster in site.clusters.items()
                    },
                },
            )
            announce(configuration)
            await asyncio.Event().wait()
        finally:
            await control.stop()


def _write_whole(path: Path, content: object) -> None:
    # A process that waits for the file must never read half of it.
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(content, ensure_ascii=False, indent=2))
    unfinished.replace(path)
