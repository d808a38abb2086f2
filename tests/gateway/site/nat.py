"""Network namespaces: a gateway's host, and machines behind a router that lets them reach only the host's sshd."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from agent.adapters.process.run import run
from tests.integration.netns import FAR_ADDRESS, Place, why_not

UPLINK = "10.231.0.254"
_RULES = (
    "-P FORWARD DROP",
    "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -o uplink -d {gateway} -p tcp --dport {port} -j ACCEPT",
    "-t nat -A POSTROUTING -o uplink -j MASQUERADE",
)


@dataclass(frozen=True)
class Net:
    """The namespaces."""

    gateway: Place
    machines: tuple[Place, ...]


@contextmanager
def behind_nat(machines: int, port: int) -> Iterator[Net]:
    """Create the namespaces and remove them at the end; skip the test where the host cannot have them."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    tag = secrets.token_hex(3)
    gateway, router = Place(f"gateway-{tag}", FAR_ADDRESS), Place(f"router-{tag}", UPLINK)
    places = tuple(Place(f"m{number}-{tag}", f"10.232.{number}.2") for number in range(machines))
    with ExitStack() as stack:
        for place in (gateway, router, *places):
            run(["ip", "netns", "add", place.name], timeout_s=20)
            stack.callback(run, ["ip", "netns", "del", place.name], timeout_s=20)
            place.run("ip", "link", "set", "lo", "up")
        _join(router, "uplink", UPLINK, gateway, "eth0")
        for number, place in enumerate(places):
            way_out = f"10.232.{number}.1"
            _join(router, f"m{number}", way_out, place, "eth0")
            place.run("ip", "route", "add", "default", "via", way_out)
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for rule in _RULES:
            router.run("iptables", "-w", *rule.format(gateway=gateway.address, port=port).split())
        yield Net(gateway, places)


def _join(one: Place, device: str, address: str, other: Place, other_device: str) -> None:
    """Lay a wire between two namespaces."""
    peer = ("type", "veth", "peer", "name", other_device, "netns", other.name)
    one.run("ip", "link", "add", device, *peer)
    ends: Sequence[tuple[Place, str, str]] = ((one, device, address), (other, other_device, other.address))
    for place, name, own in ends:
        place.run("ip", "address", "add", f"{own}/24", "dev", name)
        place.run("ip", "link", "set", name, "up")
