"""Names of machines: whose a name is, and at which of its addresses the machine is now.

The gateway dials `machine-<id>.<domain>`. A machine sits at one of four addresses (core/tunnel/addresses.py): at
another one after its path was cut, for as long as sshd keeps the dead session's listener. Who listens tells where it
is, without asking: a dial to a dead session would keep it alive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent.core.relay.zone import SOCKS_PORT, ZONE, Pods
from agent.core.tunnel.addresses import candidates

MACHINE_PORTS = frozenset({SOCKS_PORT, 6443, 29443})
"""A machine listens on one of these: any port, only its k3s (the plain form), or only its agent API."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})+")
_MACHINE = re.compile(r"machine-([0-9a-f]{8})")


@dataclass(frozen=True, order=True)
class Listener:
    """A listening TCP socket."""

    address: str
    port: int
    inode: int


@dataclass(frozen=True)
class NamesSettings:
    """The domain of the machines' names, and where it is answered: for gateway pods, with addresses in their range."""

    domain: str
    places: tuple[tuple[tuple[str, int], Pods | None], ...]


def parse_domain(text: str) -> str:
    """Return the domain of the machines' names in lower case, without a final dot.

    Raises: ValueError for what is no domain of at least two labels.
    """
    domain = text.lower().rstrip(".")
    if not _DOMAIN.fullmatch(domain) or len(domain) > 235:
        raise ValueError(
            "is not a domain; give the gateway's tailscale.user and tailscale.hostName joined by a dot, such as"
            " beta9.tailnet.example"
        )
    return domain


def machine_of(name: str, domain: str) -> str | None:
    """Return the id of the machine that a name in the domain stands for; None for any other name."""
    label, _, rest = name.partition(".")
    found = _MACHINE.fullmatch(label)
    return found[1] if found and rest == domain else None


def sightings(
    before: Mapping[Listener, float], listening: Iterable[Listener], now_s: float
) -> dict[Listener, float]:
    """Return when each machine's listener that exists now was first seen."""
    return {each: before.get(each, now_s) for each in listening if each.port in MACHINE_PORTS}


def current_address(
    machine_id: str, seen: Mapping[Listener, float], is_silent: Callable[[str], bool]
) -> str | None:
    """Return the address at which the machine is now, or None while it is not connected.

    With two, the older is a dead session's. `is_silent`: the machine at this address has not answered a dial.
    """
    own = candidates(machine_id)
    listeners = [each for each in seen if each.address in own]
    # Inodes are numbered upwards, but in batches for each CPU: only a hint, when both were there first.
    newest = max(
        listeners,
        key=lambda each: (not is_silent(each.address), seen[each], each.inode),
        default=None,
    )
    return newest.address if newest else None


def as_dialled(address: str, pods: Pods | None) -> str:
    """Return what to dial for a machine's address: itself, or for gateway pods the same address in their range."""
    if pods is None:
        return address
    return str(pods.dialled[int(IPv4Address(address)) & int(ZONE.hostmask)])
