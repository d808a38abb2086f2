"""A machine that is a worker: a network namespace with a container behind the worker's bridge, published by DNAT."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from agent.adapters.process.run import run
from agent.core.hairpin.layout import DEFAULT_RANGE, INTERFACE, Layout
from tests.gateway.relay_lab import server
from tests.integration.netns import Place

CONTAINER_PORT = 8001
"""Inside the container."""
PUBLISHED = 38001
"""On the machine: the gateway's worker takes a free port of the kernel's own range."""


@dataclass(frozen=True)
class Dial:
    """How a connection attempt ended."""

    answer: bytes | None
    took_s: float
    error: str = ""


def dial(place: Place, port: int, address: str = Layout().inner, source_port: int = 0) -> Dial:
    """Connect as ssh would, and read what the far end says first."""
    began_s = time.monotonic()
    with place.inside(), socket.socket() as client:
        client.settimeout(3)
        if source_port:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((Layout().outer, source_port))
        try:
            client.connect((address, port))
            took_s = time.monotonic() - began_s
            return Dial(client.recv(100), took_s)
        except OSError as error:
            return Dial(None, time.monotonic() - began_s, error.strerror or str(error))


@contextmanager
def greeter(place: Place, address: str, port: int, greeting: bytes) -> Iterator[None]:
    """Listen there, and greet whoever connects."""
    with server(place, address, port, lambda connection: connection.sendall(greeting)):
        yield


@contextmanager
def container(place: Place) -> Iterator[Place]:
    """Start a container on a machine as the gateway's worker does: on a bridge, its port a DNAT rule in PREROUTING."""
    inner = Place(f"{place.name}-c", "192.168.1.5")
    with ExitStack() as stack:
        run(["ip", "netns", "add", inner.name], timeout_s=20)
        stack.callback(run, ["ip", "netns", "del", inner.name], timeout_s=20)
        for line in (
            "link add b9_br0 type bridge",
            "address add 192.168.1.1/24 dev b9_br0",
            "link set b9_br0 up",
            f"link add b9h1 type veth peer name eth0 netns {inner.name}",
            "link set b9h1 master b9_br0",
            "link set b9h1 up",
        ):
            place.run("ip", *line.split())
        stack.callback(place.run, "ip", "link", "del", "b9_br0")
        for line in (
            "link set lo up",
            "address add 192.168.1.5/24 dev eth0",
            "link set eth0 up",
            "route add default via 192.168.1.1",
        ):
            inner.run("ip", *line.split())
        place.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        to = f"{inner.address}:{CONTAINER_PORT}"
        rule = f"PREROUTING -p tcp --dport {PUBLISHED} -j DNAT --to-destination {to}"
        place.run("iptables", "-w", "-t", "nat", "-A", *rule.split())
        stack.callback(place.run, "iptables", "-w", "-t", "nat", "-D", *rule.split())
        stack.enter_context(greeter(inner, "0.0.0.0", CONTAINER_PORT, b"container"))
        yield inner


class HairpinProcess:
    """A hairpin that a process of its own keeps in a namespace."""

    def __init__(self, place: Place, network: str = DEFAULT_RANGE, k3s_port: int = 6443) -> None:
        argv = [*place.prefix, sys.executable, "-m", "tests.gateway.hairpin_process", network, str(k3s_port)]
        self.place = place
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def check(self, *words: str) -> dict[str, Any]:
        """Make one check, by default with k3s let in; return its result."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(words or ("open",)) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        """Let it remove the hairpin and end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __enter__(self) -> HairpinProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.close()


def traces(place: Place) -> str:
    """Return what a hairpin would leave behind on a machine: interface, routes, rules."""
    found = [
        place.run("ip", "-o", "link", "show"),
        place.run("ip", "-4", "route", "show", "table", "all"),
        place.run("iptables", "-w", "-S"),
        place.run("nft", "list", "ruleset"),
    ]
    lines = "".join(found).splitlines()
    return "\n".join(line for line in lines if INTERFACE in line or "hairpin" in line or "198.18.0" in line)
