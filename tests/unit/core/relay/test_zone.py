"""Whom a dial is for: a machine's own address, or the same place in the pods' range."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from agent.core.relay.zone import ZONE, Pods, machine_address
from agent.core.tunnel.addresses import candidates

PODS = Pods(IPv4Network("100.64.0.0/10"), IPv4Network("10.42.0.0/16"))


def test_every_address_of_a_machine_is_in_the_zone() -> None:
    assert {machine_address(address, None) for address in candidates("1165a9b6")} == set(
        candidates("1165a9b6")
    )


@pytest.mark.parametrize(
    ("dialled", "pods", "machine"),
    [
        ("127.64.0.1", None, "127.64.0.1"),
        ("127.127.255.254", None, "127.127.255.254"),
        ("127.0.0.1", None, None),
        ("127.128.0.1", None, None),
        ("100.70.1.2", None, None),
        ("100.64.0.1", PODS, "127.64.0.1"),
        ("100.127.255.254", PODS, "127.127.255.254"),
        ("100.128.0.1", PODS, None),
        ("127.70.1.2", PODS, "127.70.1.2"),
    ],
)
def test_an_address_stands_for(dialled: str, pods: Pods | None, machine: str | None) -> None:
    assert machine_address(dialled, pods) == machine


@pytest.mark.parametrize(
    ("dialled", "source", "problem"),
    [
        ("100.64.0.0/16", "10.42.0.0/16", "must be a /10"),
        (str(ZONE), "10.42.0.0/16", "outside 127.0.0.0/8"),
        ("127.0.0.0/10", "10.42.0.0/16", "outside 127.0.0.0/8"),
        ("10.0.0.0/10", "10.42.0.0/16", "outside 127.0.0.0/8 and 10.42.0.0/16"),
    ],
)
def test_a_range_that_cannot_serve_pods_is_refused(dialled: str, source: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Pods(IPv4Network(dialled), IPv4Network(source))
