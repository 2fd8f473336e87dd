"""The limits of requests and of failed logins, counted by this process.

A table holds the callers and addresses of the last two minutes; older ones are dropped as others are counted.
"""

import ipaddress
import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.ngt.errors import Fault, FaultCode
from app.settings import Callers

WINDOW_S = 60
# One customer's network has so many bits in IPv6, and 2^64 addresses.
_IPV6_NETWORK_BITS = 64


class RateLimited(Fault):
    """Too many requests; `retry_after_s` is at least 1."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(FaultCode.RATE_LIMITED, message)


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of a caller: `remaining` of `limit`, more in `reset_s`. `exceeded`: this request is one too many."""

    exceeded: bool
    limit: int
    window_s: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-10 has them."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window_s}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset_s}',
        }


class CallLimits:
    """The limits of `[callers]`; a window is a minute."""

    def __init__(self, settings: Callers, window_s: int = WINDOW_S) -> None:
        self._requests = _Window(settings.requests_per_minute, window_s)
        self._failures = _Window(settings.failed_logins_per_minute, window_s)

    async def count_request(self, caller_id: str) -> Quota | None:
        """The quota of the caller after this request; None: there is no limit."""
        if self._requests.limit == 0:
            return None
        exceeded = not await self._requests.take(caller_id)
        return await self._requests.quota(caller_id, exceeded=exceeded)

    async def check_key(self, key_id: str) -> None:
        """Raises RateLimited when there were too many failed logins for this API key."""
        if not await self._failures.is_open("key", key_id):
            raise await self._too_many_failures("key", key_id)

    async def note_failure(self, address: str, key_id: str | None) -> RateLimited | None:
        """A login from the address failed, and named this API key if any; the fault if it was one too many."""
        if key_id is not None:
            await self._failures.take("key", key_id)
        network = network_of(address)
        if await self._failures.take("address", network):
            return None
        return await self._too_many_failures("address", network)

    async def _too_many_failures(self, *who: str) -> RateLimited:
        quota = await self._failures.quota(*who, exceeded=True)
        return RateLimited("Too many logins failed.", quota.reset_s)


def network_of(address: str) -> str:
    """The network that an address counts for: itself in IPv4, its first 64 bits in IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        # The name of a test's client, or what a trusted proxy made of one.
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False))


class _Window:
    """One limit with a table of its own, so that a flood of failed logins does not slow the counting of requests."""

    def __init__(self, limit: int, window_s: int) -> None:
        self.limit = limit
        self._item: RateLimitItem = RateLimitItemPerSecond(limit, window_s)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def is_open(self, *who: str) -> bool:
        return self.limit == 0 or await self._limiter.test(self._item, *who)

    async def take(self, *who: str) -> bool:
        """True when one more is within the limit; only then it is counted."""
        return self.limit == 0 or await self._limiter.hit(self._item, *who)

    async def quota(self, *who: str, exceeded: bool) -> Quota:
        stats = await self._limiter.get_window_stats(self._item, *who)
        reset_s = max(1, math.ceil(stats.reset_time - time.time()))
        return Quota(exceeded, self.limit, self._item.get_expiry(), stats.remaining, reset_s)
