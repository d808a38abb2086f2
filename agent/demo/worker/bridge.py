"""The containers' network on a machine, made as the gateway's worker makes it.

All containers are on the bridge b9_br0, in 192.168.1.0/24. A container's port is published by one DNAT rule in
PREROUTING and nothing else: a connection that starts on the machine itself never reaches it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from agent.adapters.process.run import CommandFailed, run

BRIDGE = "b9_br0"
NETWORK = "192.168.1"
_COMMAND_S = 20.0


def set_up_bridge() -> None:
    """Create the bridge and its rules unless they exist. Raises: CommandFailed, LookupError without a default route."""
    way_out = _default_interface()
    if BRIDGE not in {name for _, name in socket.if_nameindex()}:
        _ip(
            f"link add {BRIDGE} type bridge",
            f"address add {NETWORK}.1/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
        )
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    _add_unique("nat", "-A", "POSTROUTING", f"-s {NETWORK}.0/24 -o {way_out} -j MASQUERADE")
    _add_unique("filter", "-I", "FORWARD", f"-i {BRIDGE} -o {way_out} -j ACCEPT")
    _add_unique("filter", "-I", "FORWARD", f"-i {way_out} -o {BRIDGE} -j ACCEPT")


def attach(pid: int) -> str:
    """Connect a process's network namespace to the bridge; return its address. Raises: CommandFailed."""
    number = next(_attached(pid))
    inner = (
        "link set lo up",
        f"address add {NETWORK}.{number}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {NETWORK}.1",
    )
    _ip(*inner, prefix=("nsenter", "--target", str(pid), "--net"))
    return f"{NETWORK}.{number}"


def _attached(pid: int) -> Iterator[int]:
    """Yield the first number for which no container has an interface, once there is one for this process."""
    for number in range(2, 255):
        outer = f"b9_veth_h_{number}"
        try:
            _ip(f"link add {outer} type veth peer name eth0 netns {pid}")
        except CommandFailed as error:
            if "File exists" in error.stderr:
                continue
            raise
        _ip(f"link set {outer} master {BRIDGE}", f"link set {outer} up")
        yield number


class Published:
    """The rules that publish a container's port, until withdraw()."""

    def __init__(self, container_id: str, host_port: int, address: str, port: int) -> None:
        comment = f"-m comment --comment {container_id}"
        self._rules = (
            ("nat", "PREROUTING", f"-p tcp --dport {host_port} {comment} -j DNAT --to {address}:{port}"),
            ("filter", "FORWARD", f"-p tcp -d {address} --dport {port} {comment} -j ACCEPT"),
        )
        for table, chain, rule in self._rules:
            _iptables(table, "-I" if table == "nat" else "-A", chain, rule)

    def withdraw(self) -> None:
        """Remove the rules. Raises: CommandFailed."""
        for table, chain, rule in self._rules:
            _iptables(table, "-D", chain, rule)


def free_port() -> int:
    """Return a port that nobody listens on. As with the real worker, nothing keeps it free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _default_interface() -> str:
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        name, destination = line.split()[:2]
        if destination == "00000000":
            return name
    raise LookupError("default route not found")


def _ip(*lines: str, prefix: tuple[str, ...] = ()) -> None:
    run([*prefix, "ip", "-batch", "-"], _COMMAND_S, input="".join(f"{line}\n" for line in lines))


def _iptables(table: str, action: str, chain: str, rule: str) -> None:
    run(["iptables", "-w", "10", "-t", table, action, chain, *rule.split()], _COMMAND_S)


def _add_unique(table: str, action: str, chain: str, rule: str) -> None:
    try:
        _iptables(table, "-C", chain, rule)
    except CommandFailed:
        _iptables(table, action, chain, rule)
