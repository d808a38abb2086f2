"""Routes that stand in the way of the hairpin or of the containers' network; as iproute2 6.1 prints them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.core.hairpin.clashes import containers_unreachable, in_the_way, network, range_taken, routes
from agent.core.hairpin.layout import Layout

OWN: list[dict[str, Any]] = [
    {"dst": "default", "gateway": "10.0.2.2", "dev": "eth0", "flags": []},
    {"dst": "10.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link", "prefsrc": "10.0.2.15"},
    {"dst": "198.18.0.0/30", "dev": "b9-hairpin", "protocol": "kernel", "prefsrc": "198.18.0.1"},
    {"type": "unreachable", "dst": "198.18.0.0/30", "metric": 4294967295, "flags": []},
    {"type": "local", "dst": "127.0.0.0/8", "dev": "lo", "table": "local"},
    {"type": "local", "dst": "198.18.0.1", "dev": "b9-hairpin", "table": "local"},
    {"type": "broadcast", "dst": "198.18.0.3", "dev": "b9-hairpin", "table": "local"},
]
WORKERS = [{"dst": "192.168.1.0/24", "dev": "b9_br0"}, {"dst": "10.42.0.0/24", "dev": "cni0"}]


def read(*more: dict[str, Any]) -> Any:
    return routes(json.dumps([*OWN, *WORKERS, *more]))


def test_its_own_routes_are_not_in_its_way() -> None:
    assert in_the_way(read(), Layout()) is None
    assert containers_unreachable(read()) is None


TAKEN: dict[str, dict[str, Any]] = {
    "198.18.0.0/15": {"dst": "198.18.0.0/15", "gateway": "10.0.2.9", "dev": "eth0"},
    "198.18.0.0/16": {"dst": "198.18.0.0/16", "dev": "tun0"},
    "198.18.0.2": {"dst": "198.18.0.2", "dev": "wg0", "table": "51820"},
    "local 198.18.0.1": {"type": "local", "dst": "198.18.0.1", "dev": "dummy0", "table": "local"},
    "198.0.0.0/8": {"dst": "198.0.0.0/8", "gateway": "10.0.2.9", "dev": "eth0"},
    "unreachable 198.18.0.0/15": {"type": "unreachable", "dst": "198.18.0.0/15"},
}


@pytest.mark.parametrize(("name", "route"), TAKEN.items(), ids=TAKEN)
def test_a_route_or_address_in_its_range_is_named(name: str, route: dict[str, Any]) -> None:
    found = in_the_way(read(route), Layout())
    assert found is not None
    text = range_taken(found, Layout())
    assert name in text
    assert "BETA9_HAIRPIN" in text
    assert route.get("dev", "") in text


@pytest.mark.parametrize("where", ["0.0.0.0/1", "128.0.0.0/1", "default", "198.18.0.4/30", "10.0.0.0/8"])
def test_default_routes_and_neighbours_are_not_in_its_way(where: str) -> None:
    assert in_the_way(read({"dst": where, "dev": "tun0"}), Layout()) is None


@pytest.mark.parametrize(
    "route",
    [
        {"dst": "192.168.1.0/24", "dev": "eth0"},
        {"type": "local", "dst": "192.168.1.77", "dev": "eth0", "table": "local"},
        {"dst": "192.168.1.128/25", "dev": "eth1"},
        {"dst": "default", "gateway": "192.168.1.1", "dev": "eth0"},
    ],
    ids=str,
)
def test_a_machine_in_the_containers_network_is_told(route: dict[str, Any]) -> None:
    text = containers_unreachable(read(route)) or ""
    assert "192.168.1.0/24" in text
    assert str(route["dev"]) in text


@pytest.mark.parametrize("where", ["192.168.0.0/16", "192.168.0.0/24", "192.168.2.0/24"])
def test_a_larger_or_another_network_does_no_harm(where: str) -> None:
    assert containers_unreachable(read({"dst": where, "dev": "eth0"})) is None


@pytest.mark.parametrize("text", ["1.2.3", "1.2.3.4/33", "a.b.c.d", "256.0.0.0/8", ""])
def test_what_is_no_network_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        network(text)


def test_no_output_means_no_routes() -> None:
    assert routes("") == ()
