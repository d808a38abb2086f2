"""The relay's packet filter rules, in nftables' language and in iptables'. Both say the same:

1. Nothing to or from the zone is tracked, so no NAT rule of the host's (a NodePort, a published container) takes it.
2. On the way out, port 1080 of a machine is open to the relay's user only, and the relay's own dials are marked OWN.
3. On the way in, a dial to an address and port where something itself listens on exactly that address passes: an
   ordinary `-R ADDRESS:6443`, for instance. Any other waits in the queue. The relay lets it go on as OPEN, to its own
   listener (tproxy), once the machine has answered, and otherwise without a mark.
4. What arrives as neither OPEN nor PASS is reset. So a dial is refused when the relay does not run (`bypass`), when its
   queue is full, and where only a listener on all addresses (the host's own k3s) would answer.

Only the first packet of a connection is judged. Every rule carries a comment with a digest of the whole set, by which
`is_complete` recognises that the set is in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from agent.core.relay.zone import SOCKS_PORT, ZONE, Pods

TABLE = "beta9_relay"
CHAIN = "BETA9-RELAY"
"""Prefix of the chains in iptables' tables."""
TAG = "beta9-relay"
# Others use bits 8 to 15 (Cilium, kube-proxy), 16 and 17 (kube-router, Calico) and 18 to 23 (Tailscale).
OPEN, PASS, OWN = 0x5B000001, 0x5B000002, 0x5B000003
"""Marks: granted by the relay, something listens there itself, dialled by the relay."""


@dataclass(frozen=True)
class RuleSettings:
    """What the rules depend on: the relay's user, queue and port, and the gateway pods, if there are any."""

    uid: int
    queue: int
    port: int
    pods: Pods | None = None

    @property
    def dialled(self) -> tuple[str, ...]:
        """The ranges of addresses that are the relay's."""
        return (str(ZONE), *([str(self.pods.dialled)] if self.pods else []))


def is_complete(listing: str, settings: RuleSettings) -> bool:
    """Return whether a listing (`nft list table`, or iptables-save) has every rule of the set."""
    tag = _tag(settings)
    return listing.count(tag) in (nft_rules(settings).count(tag), xtables_rules("", settings).count(tag))


def _tag(settings: RuleSettings) -> str:
    template = _NFT + "".join(_XTABLES_CHAINS) + repr(_xtables_bodies(settings))
    return f"{TAG}:{sha256(template.encode()).hexdigest()[:12]}"


# --- nftables --------------------------------------------------------------------------------------------

_NFT = """\
table ip {table} {{
    chain leaving_untracked {{
        type filter hook output priority raw; policy accept;
        ip daddr {dialled} notrack {tag}
        ip saddr {dialled} notrack {tag}
    }}
    chain arriving_untracked {{
        type filter hook prerouting priority raw; policy accept;
        ip daddr {dialled} notrack {tag}
    }}
    chain leaving {{
        type filter hook output priority filter; policy accept;
        ip daddr {zone} tcp dport {socks_port} meta skuid != {uid} {first} reject with tcp reset {tag}
        ip daddr {zone} meta skuid {uid} {first} meta mark set {own} {tag}
    }}
    chain arriving {{
        type filter hook prerouting priority mangle; policy accept;
        ip daddr {dialled} {first} jump judge {tag}
    }}
    chain judge {{
        meta mark {open} meta l4proto tcp tproxy to 127.0.0.1:{port} accept {tag}
        ip daddr {zone} iifname != "lo" drop {tag}
{pods}        socket wildcard 0 meta mark set {passed} accept {tag}
        meta mark {own} accept {tag}
        tcp dport {socks_port} accept {tag}
        queue flags bypass to {queue} {tag}
    }}
    chain arrived {{
        type filter hook input priority filter; policy accept;
        ip daddr {dialled} {first} meta mark != {{ {open}, {passed} }} reject with tcp reset {tag}
    }}
}}
"""
_NFT_FIRST = "tcp flags & (fin | syn | rst | ack) == syn"


def nft_rules(settings: RuleSettings) -> str:
    """Return the input of `nft -f` that replaces the table, or creates it, in one transaction."""
    tag = f'comment "{_tag(settings)}"'
    pods = settings.pods
    table = _NFT.format(
        table=TABLE,
        dialled="{ " + ", ".join(settings.dialled) + " }",
        zone=ZONE,
        first=_NFT_FIRST,
        socks_port=SOCKS_PORT,
        uid=settings.uid,
        port=settings.port,
        queue=settings.queue,
        open=hex(OPEN),
        passed=hex(PASS),
        own=hex(OWN),
        tag=tag,
        pods=f"        ip daddr {pods.dialled} ip saddr != {pods.source} accept {tag}\n" if pods else "",
    )
    return nft_removal() + table


def nft_removal() -> str:
    """Return the input of `nft -f` that removes the table, whether or not it exists."""
    return f"add table ip {TABLE}\ndelete table ip {TABLE}\n"


# --- iptables --------------------------------------------------------------------------------------------

_XTABLES_CHAINS = (
    "filter OUTPUT",
    "filter INPUT",
    "raw OUTPUT",
    "raw PREROUTING",
    "mangle OUTPUT",
    "mangle PREROUTING",
)
"""In the order in which they are filled: what nothing has granted is reset first."""


def xtables_rules(saved: str, settings: RuleSettings) -> str:
    """Return the input of `iptables-restore --noflush` that makes the chains current; `saved`: iptables-save's output.

    Our chains come first in the built-in ones, since many firewalls accept everything on the loopback interface.
    """
    tag = f"-m comment --comment {_tag(settings)}"
    bodies = _xtables_bodies(settings)
    tables: dict[str, list[str]] = {}
    for place in _XTABLES_CHAINS:
        table, _, hook = place.partition(" ")
        chain = _chain(hook)
        lines = tables.setdefault(table, [])
        lines += [f":{chain} - [0:0]", *_without_jumps(saved, table, hook)]
        lines += [f"-A {chain} {matches} {tag} {action}" for matches, action in bodies[place]]
        lines += [f"-I {hook} 1 -p tcp {tag} -j {chain}"]
    return _restore(tables)


def xtables_removal(saved: str) -> str:
    """Return the input of `iptables-restore --noflush` that removes our chains, as far as `saved` has them."""
    tables: dict[str, list[str]] = {}
    for place in reversed(_XTABLES_CHAINS):
        table, _, hook = place.partition(" ")
        chain = _chain(hook)
        if f":{chain} " in _section(saved, table):
            tables.setdefault(table, []).extend(
                [*_without_jumps(saved, table, hook), f"-F {chain}", f"-X {chain}"]
            )
    return _restore(tables)


def _xtables_bodies(settings: RuleSettings) -> dict[str, list[tuple[str, str]]]:
    """Return the rules of each chain as matches and action; TCP is matched by the jump."""
    zone, pods, first = str(ZONE), settings.pods, "-p tcp --syn"
    reset = "-j REJECT --reject-with tcp-reset"
    own = f"-m owner --uid-owner {settings.uid}"
    judge: list[tuple[str, str]] = []
    for dialled in settings.dialled:
        granted = f"-d {dialled} {first} -m mark --mark {hex(OPEN)}"
        judge += [(granted, f"-j TPROXY --on-ip 127.0.0.1 --on-port {settings.port}")]
    judge += [(f"-d {zone} {first} ! -i lo", "-j DROP")]
    if pods:
        judge += [(f"-d {pods.dialled} {first} ! -s {pods.source}", "-j RETURN")]
    for dialled in settings.dialled:
        judge += [
            (f"-d {dialled} {first} -m socket", f"-j MARK --set-mark {hex(PASS)}"),
            (f"-d {dialled} {first} -m mark --mark {hex(PASS)}", "-j RETURN"),
            (f"-d {dialled} {first} -m mark --mark {hex(OWN)}", "-j RETURN"),
            (f"-d {dialled} {first} --dport {SOCKS_PORT}", "-j RETURN"),
            (f"-d {dialled} {first}", f"-j NFQUEUE --queue-num {settings.queue} --queue-bypass"),
        ]
    passed = [(f"-m mark --mark {hex(mark)}", "-j RETURN") for mark in (OPEN, PASS)]
    return {
        "filter OUTPUT": [
            (f"-d {zone} {first} --dport {SOCKS_PORT} -m owner ! --uid-owner {settings.uid}", reset)
        ],
        "filter INPUT": [*passed, *((f"-d {each} {first}", reset) for each in settings.dialled)],
        "raw OUTPUT": [
            (f"{way} {each}", "-j CT --notrack") for each in settings.dialled for way in ("-d", "-s")
        ],
        "raw PREROUTING": [(f"-d {each}", "-j CT --notrack") for each in settings.dialled],
        "mangle OUTPUT": [(f"-d {zone} {first} {own}", f"-j MARK --set-mark {hex(OWN)}")],
        "mangle PREROUTING": judge,
    }


def _chain(hook: str) -> str:
    return f"{CHAIN}-{hook}"


def _without_jumps(saved: str, table: str, hook: str) -> list[str]:
    """Return the commands that delete our jumps from a built-in chain."""
    ours = re.compile(rf"^-A ({hook} .*-j {_chain(hook)})$", re.MULTILINE)
    return [f"-D {rule}" for rule in ours.findall(_section(saved, table))]


def _section(saved: str, table: str) -> str:
    return saved.partition(f"*{table}\n")[2].partition("COMMIT")[0]


def _restore(tables: dict[str, list[str]]) -> str:
    return "".join(f"*{table}\n{_lines(lines)}COMMIT\n" for table, lines in tables.items())


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
