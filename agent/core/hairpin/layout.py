"""What the hairpin consists of: interfaces, addresses, routes and packet filter rules, as commands that make it.

The namespace has no name: it lives as long as the agent holds it open, and the kernel removes it, with both ends of the
veth pair, when the agent ends in whatever way. So nothing has to be found again or adopted. Whatever else is left (a
route that rejects, rules that name an interface) does no harm without the interface, and the next agent replaces it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.core.tunnel.ssh_argv import K3S_PORT

INTERFACE = "b9-hairpin"
"""The machine's end of the veth pair. bootstrap/steps/42-firewall.sh lets in what comes from it."""
INNER_INTERFACE = "eth0"
TABLE = "beta9_hairpin"
DEFAULT_RANGE = "198.18.0.0/30"
"""Part of a range that is reserved for benchmarks (RFC 2544), so that no network should have it."""
LAST_METRIC = 4294967295
"""Of the route that rejects: the veth pair's own route wins while it is there."""

RANGE = r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})/30"

ACCEPTS: tuple[tuple[str, str], ...] = (
    ("INPUT", f"-i {INTERFACE} -j ACCEPT"),
    ("FORWARD", f"-i {INTERFACE} -m conntrack --ctstate DNAT -j ACCEPT"),
    ("FORWARD", f"-o {INTERFACE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
)
"""Rules for iptables' filter table, by chain, as `iptables -S` prints them. Docker sets FORWARD's policy to DROP."""


def parse_range(text: str) -> str:
    """Check the range of a hairpin. Raises: ValueError that says what to give instead."""
    match = re.fullmatch(RANGE, text)
    parts = [int(part) for part in match.groups()] if match else [0]
    is_usable = max(parts) <= 255 and 0 < parts[0] < 224 and parts[0] != 127 and parts[-1] % 4 == 0
    if not is_usable:
        raise ValueError(f"is not a network of four addresses; give one such as {DEFAULT_RANGE}")
    return ".".join(str(part) for part in parts) + "/30"


@dataclass(frozen=True)
class Layout:
    """The hairpin of one machine."""

    network: str = DEFAULT_RANGE
    """A /30: the machine has its first address, the namespace the second."""
    k3s_port: int = K3S_PORT
    """Where k3s listens on this machine. The gateway always dials 6443."""

    @property
    def outer(self) -> str:
        """The machine's address."""
        return self._address(1)

    @property
    def inner(self) -> str:
        """The namespace's address, the only one that ssh may connect to."""
        return self._address(2)

    def _address(self, offset: int) -> str:
        *head, last = self.network.partition("/")[0].split(".")
        return ".".join([*head, str(int(last) + offset)])

    def outer_commands(self, namespace: str) -> tuple[str, ...]:
        """Return the lines for `ip -batch` that make the pair. `namespace` is a path."""
        return (
            f"link add {INTERFACE} type veth peer name {INNER_INTERFACE} netns {namespace}",
            f"address add {self.outer}/30 dev {INTERFACE}",
            f"link set {INTERFACE} up",
        )

    def inner_commands(self) -> tuple[str, ...]:
        """Return the lines for `ip -batch`, to be run in the namespace."""
        return (
            f"address add {self.inner}/30 dev {INNER_INTERFACE}",
            f"link set {INNER_INTERFACE} up",
        )

    @property
    def rejecting_route(self) -> str:
        """The route that counts while the pair is away: without it, connections would leave by the default route."""
        return f"unreachable {self.network} metric {LAST_METRIC}"

    def inner_rules(self, *, lets_in: bool) -> str:
        """Return the namespace's rules for nft. `lets_in`: connections to k3s are not rejected.

        A source port is never the port that is dialled: the two connections of one dial (to the namespace, and back)
        would otherwise be the same to the machine, each taken for the other's reply.
        """
        k3s = f"    {self._back} tcp dport {K3S_PORT} dnat to {self.outer}:{self.k3s_port}\n"
        closed = f"    meta l4proto tcp ct original proto-dst {K3S_PORT} reject with tcp reset\n"
        return (
            f"{_emptied(TABLE)}"
            f"table ip {TABLE} {{\n"
            "  chain there {\n"
            "    type nat hook prerouting priority dstnat; policy accept;\n"
            f"{k3s if self.k3s_port != K3S_PORT else ''}"
            f"    {self._back} dnat to {self.outer}\n"
            "  }\n"
            "  chain back {\n"
            "    type nat hook postrouting priority srcnat; policy accept;\n"
            "    meta l4proto tcp masquerade to :1024-32767\n"
            "  }\n"
            "  chain closed {\n"
            "    type filter hook forward priority filter; policy accept;\n"
            f"{'' if lets_in else closed}"
            "  }\n"
            "}\n"
        )

    @property
    def _back(self) -> str:
        return f"ip saddr {self.outer} ip daddr {self.inner}"

    def outer_rules(self) -> str:
        """Return the machine's own rules for nft: only what starts on the machine itself may enter the hairpin.

        Containers and neighbours that use this machine as their router could otherwise reach ports through it that
        the machine's firewall closes to them.
        """
        return (
            f"{_emptied(TABLE)}"
            f"table ip {TABLE} {{\n"
            "  chain entry {\n"
            "    type filter hook forward priority filter; policy accept;\n"
            f'    oifname "{INTERFACE}" ct state != {{ established, related }} drop\n'
            "  }\n"
            "}\n"
        )


def _emptied(table: str) -> str:
    """Lines that remove a table, whether or not it is there."""
    return f"table ip {table}\ndelete table ip {table}\n"


def missing_accepts(listing: str) -> tuple[tuple[str, str], ...]:
    """Return those of ACCEPTS that `iptables -S` does not list."""
    lines = set(listing.splitlines())
    return tuple((chain, rule) for chain, rule in ACCEPTS if f"-A {chain} {rule}" not in lines)
