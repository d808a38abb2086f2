"""The relay on a gateway's host: which dials it takes, to whom they lead, and what becomes of the data."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.gateway.relay_lab import HAIRPIN, Site, read_all, saying, server, site
from tests.integration.netns import Place
from tests.integration.polling import wait_for
from tests.integration.ssh_client import Ssh

pytestmark = pytest.mark.gateway

ADDRESS, OTHER, PLAIN, ABSENT = "127.70.1.1", "127.71.2.2", "127.72.3.3", "127.73.4.4"
PORT = 34567
NODE_PORT = 31994


def test_a_dial_reaches_any_port_of_the_machine_and_nobody_else(either_lab: Site) -> None:
    """The host's own k3s listens on all addresses, and a Kubernetes service has a port of every address for itself."""
    lab = either_lab
    lab.machine(ADDRESS)
    translate = f"-t nat -A OUTPUT -p tcp --dport {NODE_PORT} -j DNAT --to-destination 127.0.0.1:6443"
    lab.gateway.run("iptables", *translate.split())
    near = lab.net.near
    with (
        server(lab.gateway, "0.0.0.0", 6443, saying(b"the host's own k3s ")),
        server(near, HAIRPIN, 6443, saying(b"k3s ")),
        server(near, HAIRPIN, NODE_PORT, saying(b"container ")),
    ):
        assert lab.ask("127.0.0.1", 6443) == b"the host's own k3s ping"
        assert lab.ask(ADDRESS, 6443) == b"k3s ping"
        assert lab.ask(ADDRESS, NODE_PORT) == b"container ping"
        lab.refused(ABSENT, 6443)
        lab.refused(ABSENT, NODE_PORT)
        lab.refused(ABSENT, 1080)
    lab.refused(ADDRESS, 6443)
    lab.refused(ADDRESS, NODE_PORT)


def test_what_listens_on_exactly_an_address_is_left_alone(either_lab: Site) -> None:
    """A machine in the plain form, and the agent API's proxy; with the relay and without it."""
    lab = either_lab
    forward = ("-R", f"{PLAIN}:6443:{HAIRPIN}:6443")
    with (
        server(lab.net.near, HAIRPIN, 6443, saying(b"plain ")),
        server(lab.gateway, OTHER, 29443, saying(b"agent API ")),
        server(lab.gateway, "0.0.0.0", PORT, saying(b"not this ")),
        Ssh(lab.sshd, *forward, prefix=lab.net.near.prefix),
    ):
        wait_for("the plain machine's listener", lambda: lab.listens(PLAIN, 6443))
        for _ in ("with the relay", "without"):
            assert lab.ask(PLAIN, 6443) == b"plain ping"
            assert lab.ask(OTHER, 29443) == b"agent API ping"
            lab.refused(PLAIN, 29443)
            lab.refused(PLAIN, PORT)
            lab.relay.stop()


def test_only_the_relay_may_use_a_machine_s_socks(either_lab: Site) -> None:
    lab = either_lab
    lab.machine(ADDRESS)
    lab.refused(ADDRESS, 1080)
    # The relay's own port is no way in, either: nobody was dialled there.
    with pytest.raises(ConnectionResetError), lab.dial("127.0.0.1", 12080) as connection:
        connection.recv(1)


def test_no_dial_from_another_host_is_taken(either_lab: Site) -> None:
    """kube-proxy sets route_localnet, with which a neighbour may send packets to loopback addresses."""
    lab = either_lab
    lab.machine(ADDRESS)
    lab.gateway.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    lab.net.near.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    lab.net.near.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
    lab.net.near.run("ip", "route", "add", ADDRESS, "via", lab.gateway.address)
    with server(lab.net.near, HAIRPIN, PORT, saying(b"container ")):
        assert lab.ask(ADDRESS, PORT) == b"container ping"
        with lab.net.near.inside(), pytest.raises(TimeoutError):
            socket.create_connection((ADDRESS, PORT), 2, source_address=(lab.net.near.address, 0)).close()


def test_many_dials_at_once_each_get_their_machine(lab: Site) -> None:
    """The two machines' SOCKS lead to one host here, so a port tells them apart."""
    lab.machine(ADDRESS)
    lab.machine(OTHER)
    answers: list[bool] = []

    def ask(address: str, port: int) -> None:
        answers.extend(lab.ask(address, port) == b"%d ping" % port for _ in range(25))

    with (
        server(lab.net.near, HAIRPIN, PORT, saying(b"%d " % PORT)),
        server(lab.net.near, HAIRPIN, PORT + 1, saying(b"%d " % (PORT + 1))),
    ):
        threads = [
            threading.Thread(target=ask, args=(address, port))
            for address in (ADDRESS, OTHER)
            for port in (PORT, PORT + 1) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [True] * 400


def test_data_passes_whole_in_both_directions_and_waits_for_a_slow_reader(lab: Site) -> None:
    lab.machine(ADDRESS)
    data = os.urandom(24 << 20)

    def send_all(connection: socket.socket) -> None:
        connection.sendall(hashlib.sha256(read_all(connection)).digest())
        connection.sendall(data)

    with server(lab.net.near, HAIRPIN, PORT, send_all), server(lab.net.near, HAIRPIN, PORT + 1, saying(b"")):
        connection = lab.dial(ADDRESS, PORT)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(32, socket.MSG_WAITALL) == hashlib.sha256(data).digest()
        # Nobody reads what comes back now: others are served, and the relay keeps nothing of it.
        before_kib = _memory_kib(lab.relay.pid)
        assert lab.ask(ADDRESS, PORT + 1) == b"ping"
        assert _memory_kib(lab.relay.pid) - before_kib < 1024
        assert read_all(connection) == data
        connection.close()


def test_a_break_is_passed_on_as_a_break(lab: Site) -> None:
    """Otherwise a part of an answer would look like the whole of it."""
    lab.machine(ADDRESS)
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"part")
        while connection.recv(1 << 16):
            pass
        ended.set()

    with server(lab.net.near, HAIRPIN, PORT, serve):
        broken = lab.dial(ADDRESS, PORT)
        assert broken.recv(4, socket.MSG_WAITALL) == b"part"
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.close()
        wait_for("the machine's side ends", ended.is_set)
        lasting = lab.dial(ADDRESS, PORT)
        assert lasting.recv(4, socket.MSG_WAITALL) == b"part"
        lab.relay.stop()
        with lasting, pytest.raises(ConnectionResetError):
            lasting.recv(1)


def test_probes_of_a_closed_port_fill_no_log_and_are_counted(lab: Site) -> None:
    lab.machine(ADDRESS)
    for _ in range(50):
        lab.refused(ADDRESS, PORT)
        lab.refused(ABSENT, PORT)
    assert len(lab.relay.events("relay_refused")) == 2
    metrics = _metrics(lab)
    assert 'beta9_relay_dials_total{result="closed"} 50' in metrics
    assert 'beta9_relay_dials_total{result="away"} 50' in metrics
    assert "beta9_relay_waiting_dials 0" in metrics


def test_a_dialler_that_gave_up_leaves_nothing_behind(lab: Site) -> None:
    machine = lab.machine(ADDRESS)
    with server(lab.net.near, HAIRPIN, PORT, saying(b"hello ")):
        os.kill(machine.pid, 19)  # SIGSTOP
        with lab.gateway.inside(), pytest.raises(TimeoutError):
            socket.create_connection((ADDRESS, PORT), 0.5)
        os.kill(machine.pid, 18)  # SIGCONT
        wait_for("the stream is given up", lambda: "beta9_relay_unclaimed_streams_total 1" in _metrics(lab))
        assert lab.ask(ADDRESS, PORT) == b"hello ping"
        assert "beta9_relay_connections 0" in _metrics(lab)


def test_gateway_pods_dial_a_range_of_the_operator_s(tmp_path: Path) -> None:
    """Their loopback is their own, so they dial the same machine at the same place in another range."""
    with site(tmp_path, "--pods-dial", "100.64.0.0/10", "--pods-from", "10.42.0.0/16") as lab:
        lab.relay.start()
        lab.machine(ADDRESS)
        pod = _pod(lab, "10.42.0.9")
        stranger = _pod(lab, "10.43.0.9")
        forward = ("-R", f"{PLAIN}:6443:{HAIRPIN}:6443")
        with (
            server(lab.net.near, HAIRPIN, PORT, saying(b"container ")),
            server(lab.net.near, HAIRPIN, 6443, saying(b"k3s ")),
            server(lab.gateway, "0.0.0.0", 443, saying(b"the host's own ")),
            Ssh(lab.sshd, *forward, prefix=lab.net.near.prefix),
        ):
            wait_for("the plain machine's listener", lambda: lab.listens(PLAIN, 6443))
            assert lab.ask("100.70.1.1", PORT, place=pod) == b"container ping"
            assert lab.ask("100.72.3.3", 6443, place=pod) == b"k3s ping"
            assert lab.ask(ADDRESS, PORT) == b"container ping"
            lab.refused("100.72.3.3", 443, place=pod)
            lab.refused("100.70.1.1", 1080, place=pod)
            lab.refused("100.70.1.1", PORT, place=stranger)


def _pod(lab: Site, address: str) -> Place:
    """Return a network namespace of its own, whose way out is the gateway's host."""
    pod = Place(f"pod-{address.replace('.', '-')}-{lab.gateway.name[-4:]}", address)
    name = f"v{address.split('.')[1]}"
    host = Place()
    host.run("ip", "netns", "add", pod.name)
    lab.stack.callback(host.run, "ip", "netns", "del", pod.name)
    pair = ["link", "add", name, "netns", lab.gateway.name, "type", "veth", "peer", "name", "eth0"]
    host.run("ip", *pair, "netns", pod.name)
    way_out = address.rpartition(".")[0] + ".1"
    for place, device, own in ((lab.gateway, name, way_out), (pod, "eth0", address)):
        place.run("ip", "addr", "add", f"{own}/24", "dev", device)
        place.run("ip", "link", "set", device, "up")
    pod.run("ip", "route", "add", "default", "via", way_out)
    return pod


def _metrics(lab: Site) -> str:
    with lab.dial("127.0.0.1", 9465) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return read_all(connection).decode()


def _memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
