"""Two hosts joined by one wire: network namespaces and a veth pair, for faults of the network itself.

`near` is the machine's, `far` the gateway's. Rules and shapers are put up inside `near` only, so nothing outside
the two namespaces ever notices.
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
    """Where processes run and sockets are opened: a network namespace, or (without a name) just here."""

    name: str = ""
    address: str = "127.0.0.1"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What goes before a command that is to run here."""
        return ("ip", "netns", "exec", self.name) if self.name else ()

    def run(self, *argv: str) -> str:
        """Run a command here to its end; its output. Raises: CommandFailed."""
        return run([*self.prefix, *argv], timeout_s=20).stdout

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread opens meanwhile are opened here."""
        if not self.name:
            yield
            return
        with ExitStack() as stack:
            back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            stack.callback(os.close, back)
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            stack.callback(os.close, there)
            _enter(there)
            stack.callback(_enter, back)
            yield


HERE = Place()


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class Wire:
    """The two places and what can happen to the wire between them. `port` is sshd's: only its packets suffer."""

    near: Place
    far: Place

    @contextmanager
    def dropped(self, *, port: int, outward: bool = True, inward: bool = True) -> Iterator[None]:
        """Packets vanish, from the machine to the gateway (`outward`) and back (`inward`)."""
        rules = self._rules(port, outward, inward)
        with self._rules_up([[*rule, "-j", "DROP"] for rule in rules]):
            yield

    @contextmanager
    def lossy(self, *, port: int, probability: float) -> Iterator[None]:
        """A share of the packets vanishes, in each direction."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", str(probability), "-j", "DROP"]
        with self._rules_up([[*rule, *chance] for rule in self._rules(port, outward=True, inward=True)]):
            yield

    @contextmanager
    def narrow(self, rate: str) -> Iterator[None]:
        """Both directions carry no more than `rate` (as tc(8) writes it), through one queue of 300 ms."""
        shape = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "300ms")
        with ExitStack() as stack:
            for place in (self.near, self.far):
                place.run("tc", "qdisc", "add", "dev", WIRE, *shape)
                stack.callback(place.run, "tc", "qdisc", "del", "dev", WIRE, "root")
            yield

    def readdress(self, address: str) -> None:
        """The machine gets another address, as after a new DHCP lease."""
        self.near.run("ip", "addr", "flush", "dev", WIRE, "scope", "global")
        self.near.run("ip", "addr", "add", f"{address}/24", "dev", WIRE)

    def dropped_packets(self) -> int:
        """How many packets the present rules have made vanish: proof that a fault was there."""
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
    """Why there can be no namespaces on this host, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "iptables", "tc") if shutil.which(name) is None]
    return f"not on this host: {', '.join(missing)}" if missing else None


@contextmanager
def wire() -> Iterator[Wire]:
    """Two namespaces joined, gone afterwards; a skip with the reason where the host cannot have them."""
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
    """Processes started in `place` meanwhile ask this name server (ip-netns(8) mounts /etc/netns/NAME/…)."""
    directory = Path("/etc/netns") / place.name
    had_root = directory.parent.exists()
    directory.mkdir(parents=True)
    (directory / "resolv.conf").write_text(f"nameserver {name_server}\noptions timeout:1 attempts:1\n")
    try:
        yield
    finally:
        shutil.rmtree(directory)
        if not had_root and not any(directory.parent.iterdir()):
            directory.parent.rmdir()
