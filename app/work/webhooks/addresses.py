"""The address that was checked is the address that is connected to.

A name is resolved once for each request. Its addresses are checked, and one of those that may be used is what the
connection is made to, while TLS and the `Host` header go on speaking of the name. So a name that means something else
a moment later changes nothing, and no request reaches this host, a metadata service or an internal network by a name.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import httpx

from app.settings.allowed_addresses import IpAddress, IpNetwork, refusal

# The addresses of a host, in the order in which they are to be tried; raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS = {"https": 443, "http": 80}


class AddressRefusedError(Exception):
    """The host has no address that may be connected to; the message is a clause that begins with the host."""


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """The addresses of the system's resolver, also for a host that is an address."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def usable_addresses(host: str, port: int, allowed: Sequence[IpNetwork], resolve: Resolve) -> list[IpAddress]:
    """Those that may be connected to, at least one. Raises AddressRefusedError."""
    try:
        found = dict.fromkeys(map(ipaddress.ip_address, await resolve(host, port)))
    except (OSError, UnicodeError):
        raise AddressRefusedError(f"{host} has no address that is known here") from None
    refusals = {ip: refusal(ip, allowed) for ip in found}
    usable = [ip for ip, why in refusals.items() if why is None]
    if not usable:
        told = " and ".join(f"{ip}, {why}" for ip, why in refusals.items())
        raise AddressRefusedError(f"{host} is {told or 'of no address'}")
    return usable


class CheckedTransport(httpx.AsyncBaseTransport):
    """Sends each request over a connection of its own, to a checked address; never through a proxy.

    A connection that is kept could be used for another name of the same address, for which TLS has verified nothing.
    """

    def __init__(self, allowed: Sequence[IpNetwork], tls: ssl.SSLContext, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._inner = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or _PORTS[request.url.scheme]
        *others, last = await usable_addresses(host, port, self._allowed, self._resolve)
        for ip in others:
            try:
                return await self._inner.handle_async_request(_to(ip, host, request))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_to(last, host, request))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _to(ip: IpAddress, host: str, request: httpx.Request) -> httpx.Request:
    """The same request, whose headers name the host already, to that address."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(ip)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
