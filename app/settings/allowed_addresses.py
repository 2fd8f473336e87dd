"""The addresses that a webhook may connect to: the open network, and the listed networks.

The owner of a zone can point a name to any address, so the check is always of an address.
"""

import ipaddress
from collections.abc import Iterable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds tell a machine its own credentials; some of them stand among public or among private addresses.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
_THIS_HOST = ipaddress.ip_network("0.0.0.0/8")
# Networks whose addresses hold an IPv4 address, which a gateway or the kernel would reach instead.
_HIDING_IPV4 = tuple(
    map(
        ipaddress.IPv6Network,
        ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
    )
)


def refusal(ip: IpAddress, allowed: Iterable[IpNetwork]) -> str | None:
    """The reason of a refusal, to be read after "is"; None when the address is allowed.

    A private address is allowed when its network is listed, and this host only when a network of loopback addresses is;
    link-local, multicast and metadata addresses never.
    """
    networks = tuple(allowed)
    if ip.is_loopback:
        listed = any(ip in network for network in networks if network.is_loopback)
        return None if listed else "an address of this host itself"
    if (never := _never(ip)) is not None:
        return never
    if any(ip in network for network in networks):
        return None
    is_open = ip.is_global and not (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local)
    return None if is_open else "a private address that `allow_networks` does not list"


def _never(ip: IpAddress) -> str | None:
    if ip in _METADATA:
        return "the address of a metadata service"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_unspecified or (ip.version == _THIS_HOST.version and ip in _THIS_HOST):
        return "no address of a host"
    if any(ip in network for network in _HIDING_IPV4 if network.version == ip.version):
        return "an IPv6 address that stands for one of IPv4"
    # 240.0.0.0/4 has the broadcast address in it.
    return "a reserved address" if ip.version == _THIS_HOST.version and ip.is_reserved else None
