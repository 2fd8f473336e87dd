"""One service per test, over the simulated CVMs or over OpenSSH's own server."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.settings import load_settings
from app.simulator.site import Site
from app.simulator.spec import SiteSpec, demo_site
from tests.ssh.sshd import Sshd, running_sshd
from tests.work.service import Service, assert_nothing_forbidden, opened, write_configuration

Begin = Callable[..., Awaitable[Service]]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest_asyncio.fixture
async def begin(tmp_path: Path, database_url: str) -> AsyncIterator[Begin]:
    """Begins the service of a test: `begin(spec, limits={…}, **of_clusters)`; it ends with the test."""
    async with AsyncExitStack() as stack:

        async def begin_service(
            spec: SiteSpec | None = None,
            *,
            limits: dict[str, Any] | None = None,
            sshd: Sshd | None = None,
            with_worker: bool = True,
            **of: Any,
        ) -> Service:
            site = await stack.enter_async_context(Site.running(spec or demo_site(), tmp_path / "site"))
            stack.callback(assert_nothing_forbidden, site)
            if sshd is not None:
                of = {**_over(sshd, site), **of}
            path = write_configuration(site, tmp_path / "ngt-renewal.toml", limits or {}, **of)
            service = await stack.enter_async_context(opened(load_settings(path, {}), database_url, site))
            return await stack.enter_async_context(service.at_work()) if with_worker else service

        yield begin_service


def _over(sshd: Sshd, site: Site) -> dict[str, Any]:
    """Every CVM is that server: a plain command finds no tool there, only one behind the profile does."""
    return {
        "cvms": [sshd.host().name],
        "username": sshd.username,
        "key_file": str(sshd.key_file),
        "known_hosts": str(sshd.known_hosts),
        "commands": {"profile": str(site.tool_port.profile_for("c1-cvm0"))},
    }


@pytest_asyncio.fixture(params=["simulated CVMs", "OpenSSH"])
async def begin_on_both(request: pytest.FixtureRequest, begin: Begin) -> Begin:
    """As `begin`, once for each kind of CVM; for sites with one cluster."""
    if request.param == "simulated CVMs":
        return begin
    running: Sshd = request.getfixturevalue("sshd")

    async def begin_over_openssh(spec: SiteSpec | None = None, **of: Any) -> Service:
        return await begin(spec, sshd=running, **of)

    return begin_over_openssh


@pytest_asyncio.fixture
async def service(begin: Begin) -> Service:
    """The service on the demo's site."""
    return await begin()
