"""Which addresses are connected to, and that it is the checked one."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings.allowed_addresses import refusal
from app.work.webhooks.addresses import AddressRefusedError, CheckedTransport, system_addresses, usable_addresses
from app.work.webhooks.sender import Sender
from tests.work.webhooks.authority import Authority
from tests.work.webhooks.conftest import SIGNING_SECRET, SecretFile
from tests.work.webhooks.http_server import HttpServer
from tests.work.webhooks.receiver import running_receiver
from tests.work.webhooks.samples import delivery, target

EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
PRIVATE = "a private address that `allow_networks` does not list"
HOST = "an address of this host itself"
FORM = "an IPv6 address that stands for one of IPv4"

# What is never connected to, whatever is listed.
NEVER = {
    "169.254.169.254": "the address of a metadata service",
    "168.63.129.16": "the address of a metadata service",
    "fd00:ec2::254": "the address of a metadata service",
    "169.254.0.1": "a link-local address",
    "fe80::1": "a link-local address",
    "fe80::1%lo": "a link-local address",
    "224.0.0.1": "a multicast address",
    "ff02::1": "a multicast address",
    "0.0.0.0": "no address of a host",  # noqa: S104 - Nothing is bound to it.
    "0.1.2.3": "no address of a host",
    "::": "no address of a host",
    "255.255.255.255": "a reserved address",
    "::ffff:8.8.8.8": FORM,
    "::ffff:169.254.169.254": None,
    "::ffff:0:8.8.8.8": FORM,
    "64:ff9b::8.8.8.8": FORM,
    "2002:808:808::1": FORM,
    "::8.8.8.8": FORM,
}


@pytest.mark.parametrize("allowed", [(), EVERYTHING], ids=["nothing listed", "everything listed"])
@pytest.mark.parametrize(("address", "why"), NEVER.items())
def test_some_addresses_are_never_connected_to(
    address: str, why: str | None, allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
) -> None:
    told = refusal(ipaddress.ip_address(address), allowed)
    assert told is not None
    assert why in {None, told}


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "fec0::1"])
def test_a_private_address_is_connected_to_where_its_network_is_listed(address: str) -> None:
    ip = ipaddress.ip_address(address)
    assert refusal(ip, ()) == PRIVATE
    assert refusal(ip, [ipaddress.ip_network("10.9.0.0/16")]) == PRIVATE
    assert refusal(ip, EVERYTHING) is None
    assert refusal(ip, [ipaddress.ip_network(address)]) is None


@pytest.mark.parametrize(("address", "network"), [("127.0.0.1", "127.0.0.0/8"), ("::1", "::1/128")])
def test_this_host_is_connected_to_only_where_it_is_meant(address: str, network: str) -> None:
    ip = ipaddress.ip_address(address)
    assert refusal(ip, EVERYTHING) == HOST
    assert refusal(ip, [ipaddress.ip_network(network)]) is None


@pytest.mark.parametrize("address", ["8.8.8.8", "149.96.1.1", "2606:4700::1111"])
def test_the_open_network_needs_no_list(address: str) -> None:
    assert refusal(ipaddress.ip_address(address), ()) is None


@given(st.ip_addresses())
def test_what_needs_no_list_is_an_address_of_the_open_network(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if refusal(ip, ()) is None:
        assert ip.is_global
        assert not any((ip.is_multicast, ip.is_loopback, ip.is_link_local, ip.is_unspecified))


class Zone:
    """A name server that says something else each time, as one may that wants to be trusted first."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0)


async def test_the_first_usable_addresses_are_kept_in_their_order() -> None:
    zone = Zone(["169.254.169.254", "8.8.4.4", "10.0.0.1", "8.8.8.8", "8.8.4.4"])
    usable = await usable_addresses("receiver.example", 443, (), zone)
    assert list(map(str, usable)) == ["8.8.4.4", "8.8.8.8"]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["127.0.0.1"], f"receiver.example is 127.0.0.1, {HOST}"),
        (["10.0.0.1", "::1"], f"receiver.example is 10.0.0.1, {PRIVATE} and ::1, {HOST}"),
        ([], "receiver.example is of no address"),
    ],
)
async def test_a_host_without_a_usable_address_is_refused(answers: list[str], told: str) -> None:
    with pytest.raises(AddressRefusedError) as refused:
        await usable_addresses("receiver.example", 443, (), Zone(answers))
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0x7f000001", "127.0.0.1"), ("::1", "::1")],
)
async def test_an_address_is_checked_in_whatever_form_it_is_written(host: str, address: str) -> None:
    assert set(await system_addresses(host, 80)) == {address}
    with pytest.raises(AddressRefusedError, match=HOST):
        await usable_addresses(host, 80, (), system_addresses)


async def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AddressRefusedError, match="no address that is known here"):
        await usable_addresses("no..name", 443, (), system_addresses)


async def test_a_name_that_means_something_else_a_moment_later_changes_nothing(receiver: HttpServer) -> None:
    """The second answer would be refused; the request goes where the first one was."""
    zone = Zone(["127.0.0.1"], ["169.254.169.254"])
    port = receiver.url.rpartition(":")[2]
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    tls = httpx.create_ssl_context(trust_env=False)
    async with httpx.AsyncClient(transport=CheckedTransport(networks, tls, zone), trust_env=False) as client:
        answer = await client.post(f"http://receiver.example:{port}/hook", content=b"{}")
        assert answer.status_code == 204
        assert zone.asked == [("receiver.example", int(port))]
        with pytest.raises(AddressRefusedError, match="metadata"):
            await client.post(f"http://receiver.example:{port}/hook", content=b"{}")
    (request,) = receiver.received
    assert request.headers["host"] == f"receiver.example:{port}"


async def test_the_next_address_is_tried_when_nobody_answers_at_the_first(receiver: HttpServer) -> None:
    port = receiver.url.rpartition(":")[2]
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    tls = httpx.create_ssl_context(trust_env=False)
    transport = CheckedTransport(networks, tls, Zone(["127.0.0.77", "127.0.0.1"]))
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        answer = await client.post(f"http://receiver.example:{port}/hook", content=b"some text")
    assert answer.status_code == 204
    assert [request.body for request in receiver.received] == [b"some text"]


async def test_tls_verifies_the_name_although_the_address_is_connected_to(
    authority: Authority, secret_file: SecretFile
) -> None:
    secrets = [secret_file("signing_secret", SIGNING_SECRET)]
    with running_receiver(*authority.issue("receiver.example")) as receiver:
        port = receiver.url.rpartition(":")[2]

        async def sent(name: str, ca_file: Path | None) -> str | None:
            told = target(url=f"https://{name}:{port}/hook", ca_file=ca_file, secret_files=secrets)
            async with Sender(resolve=Zone(["127.0.0.1"])) as sender:
                return (await sender.send(told, delivery())).error

        assert await sent("receiver.example", authority.ca_file) is None
        assert [request.headers["host"] for request in receiver.received] == [f"receiver.example:{port}"]
        refused = await sent("other.example", authority.ca_file)
        assert refused is not None
        assert refused.endswith("refused: Hostname mismatch, certificate is not valid for 'other.example'.")
        unknown = await sent("receiver.example", None)
        assert unknown is not None
        assert "its certificate was refused: unable to get local issuer certificate" in unknown
        assert len(receiver.received) == 1


async def test_tls_verifies_an_address_that_is_the_host_itself(authority: Authority, secret_file: SecretFile) -> None:
    secrets = [secret_file("signing_secret", SIGNING_SECRET)]
    with running_receiver(*authority.issue("127.0.0.1")) as receiver:
        told = target(url=receiver.url, ca_file=authority.ca_file, secret_files=secrets)
        async with Sender() as sender:
            assert (await sender.send(told, delivery())).http_status == 204


async def test_no_proxy_of_the_environment_is_used(
    receiver: HttpServer, secret_file: SecretFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    told = target(url=receiver.url, secret_files=[secret_file("signing_secret", SIGNING_SECRET)])
    async with Sender() as sender:
        assert (await sender.send(told, delivery())).error is None
