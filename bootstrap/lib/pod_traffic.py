"""Try with real packets whether this machine's packet filter lets pods work, before there are any pods.

    python3 pod_traffic.py PODS        (for example 10.42.0.0/16)

A network namespace stands in for a pod, behind a bridge called cni0, as k3s will create it; both are removed at the
end. What pods send through this machine is tried in a copy of its rules in another namespace, since k3s adds rules of
its own to that chain.

Prints a line WHAT<TAB>DETAIL for each kind of traffic that is blocked: `input`, `loopback`, `output` or `forward`.
Exits with 2, and the reason on stderr, if it cannot be tried. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

CLONE_NEWNET = 0x40000000
TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 10
API, KUBELET = 6443, 10250
RESOLVERS = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
DEFAULT_RESOLVER = "8.8.8.8"
"""What k3s gives to CoreDNS where all of the machine's resolvers are on loopback."""
LINK = ("198.51.100.1", "198.51.100.2")
"""Addresses in the copy only: the machine's and the outside's."""
PORT = "b9-preflight"
"""The stand-in's end on the bridge."""
LIBC = ctypes.CDLL(None, use_errno=True)


class CannotTryError(Exception):
    """The traffic cannot be tried here; the message says why."""


class Namespace:
    """A network namespace that lives as long as this object, or this process."""

    def __init__(self, *, new: bool = True) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if not new:
            self.fd = home
            return
        try:
            _check(LIBC.unshare(CLONE_NEWNET))
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _check(LIBC.setns(home, CLONE_NEWNET))
        finally:
            os.close(home)
        with inside(self):
            ip("link set lo up")

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"


def _check(result: int) -> None:
    if result:
        raise CannotTryError(os.strerror(ctypes.get_errno()))


HOME = Namespace(new=False)


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Create sockets and run commands in a namespace."""
    _check(LIBC.setns(namespace.fd, CLONE_NEWNET))
    try:
        yield
    finally:
        _check(LIBC.setns(HOME.fd, CLONE_NEWNET))


def run(*argv: str, text: str | None = None) -> str:
    """Run a command; return its output. Raises: CannotTryError."""
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotTryError(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise CannotTryError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def ip(line: str) -> None:
    run("ip", *line.split())


# --- Between pods and this machine: in its own namespace, with its own rules ------------------------------------------


def between_pods_and_machine(pods: IPv4Network) -> list[str]:
    """Connect as pods, kubelet and API server will; return what fails. Raises: CannotTryError."""
    machine, pod, own = str(pods[1]), str(pods[5]), own_address()
    stand_in = Namespace()
    with ExitStack() as cleanup:
        if "cni0" not in interfaces():  # k3s may have left it, with its address
            cleanup.callback(remove, "cni0")
            ip("link add cni0 type bridge")
            ip(f"addr add {machine}/24 dev cni0")
        cleanup.callback(remove, PORT)
        with inside(stand_in):
            ip(f"link add eth0 type veth peer name {PORT} netns {HOME.path}")
        for line in (f"link set {PORT} master cni0", f"link set {PORT} up", "link set cni0 up"):
            ip(line)
        with inside(stand_in):
            ip(f"addr add {pod}/24 dev eth0")
            ip("link set eth0 up")
            ip(f"route add default via {machine}")
        here = [
            each for each in ((machine, API), (machine, KUBELET), (own, API)) if listens(cleanup, HOME, each)
        ]
        loopback = [each for each in (("127.0.0.1", API),) if listens(cleanup, HOME, each)]
        there = [each for each in ((pod, API),) if listens(cleanup, stand_in, each)]
        dials = [("input", f"{pod} by cni0", stand_in, each) for each in here]
        dials += [("loopback", "this machine", HOME, each) for each in (*loopback, *here)]
        dials += [("output", "this machine", HOME, each) for each in there]
        sockets = [cleanup.enter_context(tcp(namespace)) for _, _, namespace, _ in dials]
        with ThreadPoolExecutor(len(dials) or 1) as pool:
            failures = list(pool.map(connect, sockets, [each[3] for each in dials]))
    return [
        f"{what}\t{sender} to {address}:{port}: {failure}"
        for (what, sender, _, (address, port)), failure in zip(dials, failures, strict=True)
        if failure
    ]


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def remove(interface: str) -> None:
    """Remove it, if it was created: a signal can come at any time."""
    if interface in interfaces():
        ip(f"link delete {interface}")


def own_address() -> str:
    """Return the address that this machine sends from by default, which k3s takes for its own; "" without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((DEFAULT_RESOLVER, 53))  # sends nothing
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def listens(cleanup: ExitStack, namespace: Namespace, address: tuple[str, int]) -> bool:
    """Listen there, unless a program has the port already: that is another check's business."""
    if not address[0]:
        return False
    with inside(namespace):
        try:
            cleanup.enter_context(socket.create_server(address))
        except OSError:
            return False
    return True


def tcp(namespace: Namespace) -> socket.socket:
    with inside(namespace):
        return socket.socket()


def connect(dialling: socket.socket, address: tuple[str, int]) -> str:
    """Connect; return why that failed, or ""."""
    dialling.settimeout(TIMEOUT_S)
    try:
        dialling.connect(address)
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


# --- What pods send through this machine: in a copy of its rules ------------------------------------------------------


def through_machine(pods: IPv4Network) -> list[str]:
    """Ask the resolver as CoreDNS will, through a copy of the rules. Raises: CannotTryError."""
    resolver, uplink, devices = first_resolver(), uplink_device(), interfaces()
    rules = saved_rules()
    if not rules:
        return []
    router, stand_in, outside = Namespace(), Namespace(), Namespace()
    with inside(router):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        ip(f"link add cni0 type veth peer name eth0 netns {stand_in.path}")
        ip(f"link add {uplink} type veth peer name eth0 netns {outside.path}")
        for name in devices - {"lo", "cni0", uplink}:
            ip(f"link add {name} type bridge")  # rules can name it
        ip(f"addr add {pods[1]}/24 dev cni0")
        ip(f"addr add {LINK[0]}/30 dev {uplink}")
        for name in ("cni0", uplink):
            ip(f"link set {name} up")
        ip(f"route add {resolver} via {LINK[1]}")
        for argv, text in rules:
            run(*argv, text=text)
        if shutil.which("iptables"):
            # As kube-proxy and flannel do.
            established = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
            for rule in (["-I", *established], ["-A", "-s", str(pods)], ["-A", "-d", str(pods)]):
                run("iptables", "-w", rule[0], "FORWARD", *rule[1:], "-j", "ACCEPT")
    for namespace, address, gateway in (
        (stand_in, f"{pods[5]}/24", pods[1]),
        (outside, f"{LINK[1]}/30", LINK[0]),
    ):
        with inside(namespace):
            ip(f"addr add {address} dev eth0")
            ip("link set eth0 up")
            ip(f"route add default via {gateway}")
    with inside(outside):
        ip(f"addr add {resolver}/32 dev lo")
        asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(stand_in):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asked, asking:
        asked.bind((resolver, 53))
        asked.settimeout(TIMEOUT_S)
        try:
            asking.sendto(b"?", (resolver, 53))
            asked.recv(1)
        except OSError:
            return [f"forward\t{pods[5]} by cni0 through this machine to {resolver}:53: nothing arrives"]
    return []


def first_resolver() -> str:
    for file in map(Path, RESOLVERS):
        for address in re.findall(
            r"^nameserver\s+([0-9.]+)", file.read_text() if file.exists() else "", re.MULTILINE
        ):
            if not IPv4Address(address).is_loopback:
                return str(address)
    return DEFAULT_RESOLVER


def uplink_device() -> str:
    found = re.search(r"\bdev (\S+)", run("ip", "-4", "route", "show", "default"))
    return found[1] if found and found[1] != "cni0" else "eth0"


def saved_rules() -> list[tuple[list[str], str]]:
    """Return the commands that load this machine's filter rules elsewhere, each with its input."""
    rules, copied = [], set()
    for kind in ("nft", "legacy"):
        # iptables-legacy-save would load the kernel's module where nothing uses it.
        is_used = kind == "nft" or Path("/proc/net/ip_tables_names").exists()
        text = ""
        if is_used and shutil.which(f"iptables-{kind}-save"):
            text = run(f"iptables-{kind}-save", "-t", "filter")
        if ":FORWARD " in text:
            rules.append(([f"iptables-{kind}-restore"], text))
            copied.add(("ip", "filter") if kind == "nft" else ())
    if shutil.which("nft"):
        for family, name in re.findall(r"^table (\S+) (\S+)", run("nft", "list", "tables"), re.MULTILINE):
            text = run("nft", "list", "table", family, name)
            if family in {"ip", "inet"} and (family, name) not in copied and "hook forward" in text:
                rules.append((["nft", "--file", "-"], text))
    return rules


def main() -> int:
    """Try both; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # clean up first
    pods = IPv4Network(sys.argv[1])
    for attempt in (between_pods_and_machine, through_machine):
        try:
            found = attempt(pods)
        except (CannotTryError, OSError) as error:
            sys.stderr.write(f"what pods send cannot be tried here ({attempt.__name__}): {error}\n")
            return 2
        sys.stdout.write("".join(f"{line}\n" for line in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
