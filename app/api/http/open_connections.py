"""The open connections of this process: how many there may be, in all and from one network."""

import time
from collections import Counter
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol, Self

import structlog

from app.api.callers.rate_limits import network_of
from app.settings.callers.rate_limits import Callers

log = structlog.get_logger(__name__)

_TOLD_EVERY_S = 60


class _Connection(Protocol):
    def abort(self) -> None: ...


class OpenConnections:
    """At the limit the connection that has waited longest for its next request makes room for a new one.

    So nobody keeps others out with connections that ask for nothing. When a request is at work on each, the new one is
    refused. The `proxies` may have all connections, any other network half of them.
    """

    def __init__(self, most: int, proxies: Collection[IPv4Network | IPv6Network] = ()) -> None:
        self._most = most
        self._most_of_network = max(1, most // 2)
        self._proxies = proxies
        self._network_of: dict[_Connection, str] = {}
        self._of_network: Counter[str] = Counter()
        self._idle: dict[_Connection, None] = {}
        self._told_at_s = -float(_TOLD_EVERY_S)

    @classmethod
    def of(cls, callers: Callers, open_files: int) -> Self:
        """Twice the requests that may wait, but at most half of the files that this process may have open."""
        return cls(max(1, min(2 * callers.waiters, open_files // 2)), callers.trusted_proxies)

    def __len__(self) -> int:
        return len(self._network_of)

    def admit(self, connection: _Connection, address: str) -> bool:
        """Count a new connection, which is idle; False: it is one too many."""
        network = network_of(address)
        if self._of_network[network] >= self._most_of_network and not self._is_proxy(address):
            admitted = self._make_room(network, f"{self._most_of_network} connections are open from one network")
        else:
            admitted = len(self) < self._most or self._make_room(None, f"{self._most} connections are open")
        if admitted:
            self._network_of[connection] = network
            self._of_network[network] += 1
            self._idle[connection] = None
        return admitted

    def release(self, connection: _Connection) -> None:
        """Forget a connection that has ended; nothing happens when it was refused or has been forgotten before."""
        self._idle.pop(connection, None)
        network = self._network_of.pop(connection, None)
        if network is None:
            return
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]

    def note_work(self, connection: _Connection) -> None:
        """A request is at work on the connection."""
        self._idle.pop(connection, None)

    def note_idle(self, connection: _Connection) -> None:
        """All requests of the connection are answered."""
        if connection in self._network_of:
            self._idle[connection] = None

    def _make_room(self, network: str | None, reason: str) -> bool:
        ended = next((idle for idle in self._idle if network in {None, self._network_of[idle]}), None)
        self._tell(reason, network, "the longest idle one is closed" if ended is not None else "new ones are refused")
        if ended is None:
            return False
        self.release(ended)
        ended.abort()
        return True

    def _tell(self, reason: str, network: str | None, effect: str) -> None:
        """Not for each connection: a flood of them would be one of log lines."""
        now_s = time.monotonic()
        if now_s - self._told_at_s >= _TOLD_EVERY_S:
            self._told_at_s = now_s
            log.warning("a limit of connections is reached", reason=reason, effect=effect, network=network)

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in proxy for proxy in self._proxies)
