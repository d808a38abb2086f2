"""Two hosts joined by one wire: network namespaces and a veth pair, for faults of the network itself.

`near` belongs to the machine, `far` to the gateway. Packet filters and traffic shapers exist only inside these two
namespaces and affect nothing else on the host.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters.process.run import run

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
FAR_ADDRESS = "10.231.0.1"
NEAR_ADDRESS = "10.231.0.2"
WIRE = "wire0"


@dataclass(frozen=True)
class Place:
    """Where processes run and sockets are opened: a network namespace, or without a name the current one."""

    name: str = ""
    address: str = "127.0.0.1"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command prefix that runs a command here."""
        return ("ip", "netns", "exec", self.name) if self.name else ()

    def run(self, *argv: str) -> str:
        """Run a command here and return its output. Raises: CommandFailed."""
        return run([*self.prefix, *argv], timeout_s=20).stdout

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move this thread here: sockets that it opens meanwhile belong to this namespace."""
        if not self.name:
            yield
            return
        with ExitStack() as stack:
            original = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            stack.callback(os.close, original)
            target = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            stack.callback(os.close, target)
            _enter(target)
            stack.callback(_enter, original)
            yield


HERE = Place()


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class Wire:
    """The two namespaces and the faults of the wire between them. Only packets of sshd's `port` are affected."""

    near: Place
    far: Place

    @contextmanager
    def dropped(self, *, port: int, outward: bool = True, inward: bool = True) -> Iterator[None]:
        """Drop packets from the machine to the gateway (`outward`) and back (`inward`)."""
        rules = self._rules(port, outward, inward)
        with self._rules_up([[*rule, "-j", "DROP"] for rule in rules]):
            yield

    @contextmanager
    def lossy(self, *, port: int, probability: float) -> Iterator[None]:
        """Drop a share of the packets in each direction."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", str(probability), "-j", "DROP"]
        with self._rules_up([[*rule, *chance] for rule in self._rules(port, outward=True, inward=True)]):
            yield

    @contextmanager
    def narrow(self, rate: str) -> Iterator[None]:
        """Limit each direction to `rate` (in tc(8) notation), with a queue of 300 ms."""
        shape = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "300ms")
        with ExitStack() as stack:
            for place in (self.near, self.far):
                place.run("tc", "qdisc", "add", "dev", WIRE, *shape)
                stack.callback(place.run, "tc", "qdisc", "del", "dev", WIRE, "root")
            yield

    def readdress(self, address: str) -> None:
        """Change the machine's address, as a new DHCP lease does."""
        self.near.run("ip", "addr", "flush", "dev", WIRE, "scope", "global")
        self.near.run("ip", "addr", "add", f"{address}/24", "dev", WIRE)

    def dropped_packets(self) -> int:
        """Return how many packets the current rules have dropped, as proof that the fault took effect."""
        listed = self.near.run("iptables", "-w", "-nvxL").splitlines()
        return sum(int(line.split()[0]) for line in listed if " DROP " in line and line.split()[0].isdigit())

    def _rules(self, port: int, outward: bool, inward: bool) -> list[list[str]]:
        out = ["OUTPUT", "-o", WIRE, "-p", "tcp", "--dport", str(port)]
        back = ["INPUT", "-i", WIRE, "-p", "tcp", "--sport", str(port)]
        return [*([out] if outward else []), *([back] if inward else [])]

    @contextmanager
    def _rules_up(self, rules: list[list[str]]) -> Iterator[None]:
        with ExitStack() as stack:
            for rule in rules:
                self.near.run("iptables", "-w", "-A", *rule)
                stack.callback(self.near.run, "iptables", "-w", "-D", *rule)
            yield


def why_not() -> str | None:
    """Return why network namespaces cannot be created on this host, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "iptables", "tc") if shutil.which(name) is None]
    return f"not on this host: {', '.join(missing)}" if missing else None


@contextmanager
def wire() -> Iterator[Wire]:
    """Create two joined namespaces and remove them at the end; skip the test where the host cannot have them."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    tag = secrets.token_hex(4)
    near, far = Place(f"near-{tag}", NEAR_ADDRESS), Place(f"far-{tag}", FAR_ADDRESS)
    with ExitStack() as stack:
        for place in (near, far):
            run(["ip", "netns", "add", place.name], timeout_s=20)
            stack.callback(run, ["ip", "netns", "del", place.name], timeout_s=20)
        pair = [
            "link",
            "add",
            WIRE,
            "netns",
            near.name,
            "type",
            "veth",
            "peer",
            "name",
            WIRE,
            "netns",
            far.name,
        ]
        run(["ip", *pair], timeout_s=20)
        for place in (near, far):
            place.run("ip", "addr", "add", f"{place.address}/24", "dev", WIRE)
            for device in ("lo", WIRE):
                place.run("ip", "link", "set", device, "up")
        yield Wire(near, far)


@contextmanager
def resolver(place: Place, name_server: str = "127.0.0.1") -> Iterator[None]:
    """Make processes started in `place` use this DNS server."""
    with _in_etc(place, "resolv.conf", f"nameserver {name_server}\noptions timeout:1 attempts:1\n"):
        yield


@contextmanager
def known_names(place: Place, name: str, *addresses: str) -> Iterator[None]:
    """Make processes started in `place` resolve `name` to these addresses."""
    own = "127.0.0.1 localhost\n"
    with _in_etc(place, "hosts", own + "".join(f"{address} {name}\n" for address in addresses)):
        yield


@contextmanager
def _in_etc(place: Place, file: str, text: str) -> Iterator[None]:
    """Give processes started in `place` another /etc/FILE (ip-netns(8) bind-mounts /etc/netns/NAME/…)."""
    directory = Path("/etc/netns") / place.name
    had_root = directory.parent.exists()
    directory.mkdir(parents=True)
    (directory / file).write_text(text)
    try:
        yield
    finally:
        shutil.rmtree(directory)
        if not had_root and not any(directory.parent.iterdir()):
            directory.parent.rmdir()
