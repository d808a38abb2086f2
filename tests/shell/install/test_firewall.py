"""The firewall rules in a real kernel: one network namespace is the worker, others are the outside and a pod."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.core.hairpin.layout import INTERFACE
from tests.integration.lab import wait_for
from tests.shell.install.fakehost import BOOTSTRAP, Host

PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
CLOSED = {6443, 10250, 30500}
OPEN = 8080
ALL = {*CLOSED, OPEN}
LISTEN = """
import socket, sys, threading
for port in (6443, 10250, 30500, 8080):
    listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=lambda s=listener: [s.accept() for _ in iter(int, 1)], daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
"""
DIAL = """
import socket, sys, threading
def dial(port):
    source, target = sys.argv[1], sys.argv[2]
    try:
        with socket.create_connection((target, port), timeout=1.5, source_address=(source, 0)):
            print(f"{port}\\n", end="")
    except OSError:
        pass
for port in sys.argv[3:]:
    threading.Thread(target=dial, args=(int(port),)).start()
"""
KUBE_PROXY = """
table ip kube_proxy {
  chain services {
    type nat hook prerouting priority dstnat
    ip daddr 10.43.0.1 tcp dport 443 dnat to %s:6443
  }
}
"""
WORKER, OUTSIDE, FRIEND = "192.0.2.1", "192.0.2.2", "192.0.2.3"
WORKER6, OUTSIDE6 = "2001:db8:1::1", "2001:db8:1::2"


@dataclass(frozen=True)
class Space:
    """A network namespace."""

    name: str
    address: str = ""

    def ip(self, line: str) -> None:
        subprocess.run(["ip", "-n", self.name, *line.split()], check=True, capture_output=True)

    def nft(self, *words: str, rules: str | None = None) -> None:
        nft = shutil.which("nft", path=PATH)
        assert nft is not None
        argv = ["ip", "netns", "exec", self.name, nft, *words]
        subprocess.run(argv, check=True, input=rules, text=True, capture_output=True)

    def reached(self, target: str, *ports: int) -> set[int]:
        """Return which of the ports (all of them by default) accept a connection from here."""
        source = "127.0.0.1" if target.startswith("127.") else self.address
        argv = ["ip", "netns", "exec", self.name, "python3", "-c", DIAL, source, target]
        argv += map(str, ports or ALL)
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
        return set(map(int, done.stdout.split()))

    @contextmanager
    def listening(self) -> Iterator[None]:
        argv = ["ip", "netns", "exec", self.name, "python3", "-c", LISTEN]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listeners:
            assert listeners.stdin is not None
            assert listeners.stdout is not None
            assert listeners.stdout.readline() == b"listening\n"
            yield
            listeners.stdin.close()


@dataclass(frozen=True)
class Site:
    worker: Space
    outside: Space
    pod: Space


@pytest.fixture
def site() -> Iterator[Site]:
    """A worker without addresses, joined to the outside by eth0 and to a pod by the bridge cni0."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft", path=PATH):
        pytest.skip("needs root, iproute2 and nftables")
    spaces = [Space(f"b9{letter}{os.getpid()}") for letter in "wop"]
    worker, outside, pod = spaces
    try:
        for space in spaces:
            subprocess.run(["ip", "netns", "add", space.name], check=True, capture_output=True)
            space.ip("link set lo up")
        worker.ip(f"link add eth0 type veth peer name eth0 netns {outside.name}")
        worker.ip("link add cni0 type bridge")
        worker.ip(f"link add veth0 type veth peer name eth0 netns {pod.name}")
        worker.ip("link set veth0 master cni0")
        for space, link in (
            (worker, "eth0"),
            (outside, "eth0"),
            (worker, "cni0"),
            (worker, "veth0"),
            (pod, "eth0"),
        ):
            space.ip(f"link set {link} up")
        yield Site(worker, outside, pod)
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space.name], check=False, capture_output=True)


def addressed(site: Site, worker: str, outside: str, pods: str = "10.42.0") -> Site:
    """Give the three their addresses, as k3s would give the pod's."""
    site.worker.ip(f"addr add {worker}/24 dev eth0")
    site.outside.ip(f"addr add {outside}/24 dev eth0")
    site.worker.ip(f"addr add {pods}.1/24 dev cni0")
    site.pod.ip(f"addr add {pods}.5/24 dev eth0")
    site.pod.ip(f"route add default via {pods}.1")
    return Site(
        replace(site.worker, address=worker),
        replace(site.outside, address=outside),
        replace(site.pod, address=f"{pods}.5"),
    )


def load_rules(host: Host, site: Site) -> None:
    """Load what the step writes: twice, as a restart of the unit does."""
    file = rules(host)
    for _ in range(2):
        site.worker.nft("--file", str(file))


def rules(host: Host) -> Path:
    """Run the step; return the file of rules that it writes."""
    steps = host.directory / "real"
    steps.mkdir()
    text = (BOOTSTRAP / "steps/42-firewall.sh").read_text()
    (steps / "42-firewall.sh").write_text(text.replace("# needs: tools", "# needs:"))
    done = host.install("--steps", str(steps))
    assert done.returncode == 0, done.stderr
    return host.root / "etc/beta9-worker/firewall.nft"


def test_kubernetes_ports_are_closed_to_the_outside_and_nothing_else_is(host: Host, site: Site) -> None:
    site = addressed(site, WORKER, OUTSIDE)
    site.outside.ip(f"addr add {FRIEND}/24 dev eth0")
    site.worker.ip(f"addr add {WORKER6}/64 dev eth0 nodad")
    site.outside.ip(f"addr add {OUTSIDE6}/64 dev eth0 nodad")
    host.write_settings(BETA9_K3S_ALLOW_FROM=f"{FRIEND}/32,2001:db8::/64")
    friend, outside6 = replace(site.outside, address=FRIEND), replace(site.outside, address=OUTSIDE6)
    with site.worker.listening():
        wait_for("the network link", lambda: site.outside.reached(WORKER) == ALL)
        wait_for("the link by IPv6", lambda: outside6.reached(WORKER6) == ALL)
        load_rules(host, site)
        assert site.outside.reached(WORKER) == {OPEN}
        assert outside6.reached(WORKER6) == {OPEN}
        assert friend.reached(WORKER) == {6443, OPEN}
        assert site.worker.reached("127.0.0.1") == ALL
        assert site.worker.reached(WORKER) == ALL
        site.worker.nft("delete", "table", "inet", "beta9_worker")
        assert site.outside.reached(WORKER) == ALL


@pytest.mark.parametrize("network", ["10.42.7", "10.43.7"])
def test_a_neighbour_with_an_address_of_the_pods_range_is_not_a_pod(
    host: Host, site: Site, network: str
) -> None:
    """Field case 7.1: the machine itself is in a network that looks like the pods'."""
    site = addressed(site, f"{network}.8", f"{network}.7", pods="10.142.0")
    with site.worker.listening():
        wait_for("the network link", lambda: site.outside.reached(site.worker.address) == ALL)
        load_rules(host, site)
        assert site.outside.reached(site.worker.address) == {OPEN}
        assert site.pod.reached("10.142.0.1") == ALL
        assert site.pod.reached(site.worker.address) == ALL


@pytest.mark.parametrize("forged", ["10.42.0.77", "10.43.0.10"])
def test_a_forged_pod_address_opens_nothing_and_pods_get_through(host: Host, site: Site, forged: str) -> None:
    """Field case 7.2: packets with a pod's address come in by the outside interface, and answers find their way."""
    site = addressed(site, WORKER, OUTSIDE)
    site.outside.ip(f"addr add {forged}/32 dev lo")
    site.worker.ip(f"route add {forged}/32 via {OUTSIDE}")
    forger = replace(site.outside, address=forged)
    with site.worker.listening():
        wait_for("the network link", lambda: forger.reached(WORKER) == ALL)
        load_rules(host, site)
        assert forger.reached(WORKER) == {OPEN}
        assert site.pod.reached("10.42.0.1") == ALL
        assert site.pod.reached(WORKER) == ALL


def test_the_address_of_the_service_kubernetes_is_no_way_in(host: Host, site: Site) -> None:
    """Field case 7: kube-proxy turns 10.43.0.1:443 into this machine's 6443, whoever sends the packet."""
    site = addressed(site, WORKER, OUTSIDE)
    site.outside.ip(f"route add 10.43.0.0/16 via {WORKER}")
    site.worker.ip(f"route add default via {OUTSIDE}")
    site.worker.nft("--file", "-", rules=KUBE_PROXY % WORKER)
    with site.worker.listening():
        wait_for("the network link", lambda: site.outside.reached("10.43.0.1", 443))
        load_rules(host, site)
        assert not site.outside.reached("10.43.0.1", 443)
        assert site.pod.reached("10.43.0.1", 443)


def test_the_agents_hairpin_is_let_in(host: Host, site: Site) -> None:
    """The pod stands in for the hairpin's namespace; its interface has the hairpin's name."""
    site = addressed(site, WORKER, OUTSIDE)
    site.worker.ip("link set cni0 down")
    site.worker.ip(f"link set cni0 name {INTERFACE}")
    site.worker.ip(f"link set {INTERFACE} up")
    with site.worker.listening():
        wait_for("the link", lambda: site.pod.reached("10.42.0.1") == ALL)
        load_rules(host, site)
        assert site.pod.reached("10.42.0.1") == ALL
        assert site.outside.reached(WORKER) == {OPEN}


@pytest.mark.parametrize("is_foreign", [False, True])
def test_only_an_existing_k3s_can_have_another_network_plugin(
    host: Host, site: Site, is_foreign: bool
) -> None:
    if is_foreign:
        (host.root / "usr/local/bin/k3s").write_text("somebody's\n")
    load_rules(host, site)
    text = (host.root / "etc/beta9-worker/firewall.nft").read_text()
    assert ('iifname "cali*" accept' in text) is is_foreign
