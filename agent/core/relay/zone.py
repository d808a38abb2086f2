"""Which dials are the relay's: those to machines' addresses, and whom an address in the pods' range stands for.

A gateway in the host's network dials a machine's own address. A gateway pod cannot, because 127.0.0.0/8 never leaves
its network namespace: it dials the same address moved to a range of the operator's, of the same size.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

ZONE = IPv4Network("127.64.0.0/10")
"""Machines' addresses on the gateway's host (core/tunnel/addresses.py)."""
SOCKS_PORT = 1080
"""The port of the SOCKS listener that a machine's `ssh -R ADDRESS:1080` opens on the gateway's host."""


@dataclass(frozen=True)
class Pods:
    """Gateway pods in a network of their own: what they dial (`dialled`), and where they dial from (`source`).

    Raises: ValueError for a range of another size than `ZONE`, or one that overlaps it.
    """

    dialled: IPv4Network
    source: IPv4Network

    def __post_init__(self) -> None:
        if self.dialled.prefixlen != ZONE.prefixlen:
            raise ValueError(f"the range must be a /{ZONE.prefixlen}, as {ZONE} is, not {self.dialled}")
        if self.dialled.overlaps(IPv4Network("127.0.0.0/8")) or self.dialled.overlaps(self.source):
            raise ValueError(f"the range {self.dialled} must lie outside 127.0.0.0/8 and {self.source}")


def machine_address(dialled: str, pods: Pods | None) -> str | None:
    """Return the machine's address for an address that was dialled, or None if it is not the relay's."""
    address = IPv4Address(dialled)
    if address in ZONE:
        return dialled
    if pods is not None and address in pods.dialled:
        return str(IPv4Address(int(ZONE.network_address) | int(address) & int(ZONE.hostmask)))
    return None
