"""Which routes and addresses of this machine stand in the way of the hairpin, and of the containers' network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from agent.core.hairpin.layout import INTERFACE, Layout

CONTAINERS = "192.168.1.0/24"
"""The network that the gateway's worker gives to its containers, fixed in its source."""
CONTAINER_BRIDGE = "b9_br0"
"""The worker's own bridge, which has that network."""
_WHOLE = 1
"""VPNs write a default route as two halves, 0.0.0.0/1 and 128.0.0.0/1."""


class Network(NamedTuple):
    """An IPv4 network: its first address as a number, and the length of its prefix."""

    first: int
    length: int

    def overlaps(self, other: Network) -> bool:
        """Return whether some address is in both."""
        shift = 32 - min(self.length, other.length)
        return self.first >> shift == other.first >> shift


def network(text: str) -> Network:
    """Read `a.b.c.d` or `a.b.c.d/n`. Raises: ValueError for anything else."""
    address, slash, length = text.partition("/")
    parts = [int(part) for part in address.split(".")]
    bits = int(length) if slash else 32
    if len(parts) != 4 or not all(0 <= part <= 255 for part in parts) or not 0 <= bits <= 32:
        raise ValueError(f"no network: {text}")
    return Network(int.from_bytes(bytes(parts), "big"), bits)


class Route(NamedTuple):
    """One route or address of this machine, as `ip` shows it."""

    text: str
    target: Network
    device: str
    gateway: Network | None


def routes(output: str) -> tuple[Route, ...]:
    """Read the output of `ip -4 -json route show table all`. Raises: ValueError if it is something else."""
    return tuple(_route(each) for each in json.loads(output or "[]"))


def _route(found: dict[str, Any]) -> Route:
    where = str(found.get("dst", "default"))
    words = [str(found.get("type", "")), where]
    words += [f"{key} {found[name]}" for key, name in _SHOWN if found.get(name)]
    via = str(found.get("gateway", ""))
    return Route(
        " ".join(word for word in words if word),
        network("0.0.0.0/0" if where == "default" else where),
        str(found.get("dev", "")),
        network(via) if via else None,
    )


_SHOWN = (("via", "gateway"), ("dev", "dev"), ("table", "table"))


def in_the_way(found: Iterable[Route], layout: Layout) -> Route | None:
    """Return a route or address that overlaps with the hairpin's range and is not its own."""
    wanted = network(layout.network)
    for route in found:
        is_own = route.device == INTERFACE or (route.target == wanted and "unreachable" in route.text)
        if not is_own and route.target.length > _WHOLE and route.target.overlaps(wanted):
            return route
    return None


def range_taken(route: Route, layout: Layout) -> str:
    """Say which route has the hairpin's range, and what to do."""
    return (
        f"the range {layout.network}, which the way to this machine's ports needs, is in use here: {route.text}"
        "; remove that route or address, or set BETA9_HAIRPIN to a /30 that is free here, and tell the relay on the "
        "gateway's host"
    )


def containers_unreachable(found: Iterable[Route]) -> str | None:
    """Return why the containers' own network will not work here; None if nothing stands in its way.

    A route to a larger network does no harm, unless its gateway is among the addresses that the containers get.
    """
    wanted = network(CONTAINERS)
    for route in found:
        is_same = route.target.length >= wanted.length and route.target.overlaps(wanted)
        is_through = route.gateway is not None and route.gateway.overlaps(wanted)
        if route.device != CONTAINER_BRIDGE and (is_same or is_through):
            return (
                f"this machine's own network is {CONTAINERS}, which the worker gives to its containers "
                f"({route.text}); the machine cannot reach them: give its network other addresses"
            )
    return None
