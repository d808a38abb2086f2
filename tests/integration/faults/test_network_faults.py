"""Fault rows 7, 10, 12, 13, 15, 16 and 25: faults of the network, on two hosts (namespaces) joined by a wire.

Agent and k3s run on one, gateway and sshd on the other. Only packets to and from sshd are dropped.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.lab import SSH_PORT, Lab, laboratory
from tests.integration.nameserver import name_server
from tests.integration.netns import FAR_ADDRESS, Place, Wire, resolver, wire
from tests.integration.polling import wait_for
from tests.integration.tunnel_watch import generations, reason, wait_replaced, watch_undisturbed

LEASE_S = 20
NAME = "gateway.example"


@pytest.fixture
def net() -> Iterator[Wire]:
    with wire() as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path, net: Wire) -> Iterator[Lab]:
    with laboratory(tmp_path, near=net.near, far=net.far) as made:
        yield made


@pytest.mark.fault(7)
def test_fault_07_both_ways_dropped_for_six_seconds(lab: Lab, net: Wire, report: Report) -> None:
    agent = lab.ready_agent()
    before = agent.ssh_pids()
    with net.dropped(port=SSH_PORT):
        time.sleep(6)  # the fault itself
        assert net.dropped_packets() > 0
    healed_s = time.monotonic()
    wait_for("an answer through the tunnel", lambda: agent.status()["gateway"]["last_ok_s"] < 1)
    back_s = time.monotonic() - healed_s
    watch_undisturbed(agent, 5)
    assert agent.ssh_pids() == before
    report(f"same two children, an answer {back_s:.1f} s after the heal", back_s)


@pytest.mark.fault(10)
def test_fault_10_dropped_for_longer_than_the_lease(tmp_path: Path, net: Wire, report: Report) -> None:
    """Scaled: the gateway's lease is 20 s instead of 300 s; the agent takes it from the replies."""
    with laboratory(tmp_path, near=net.near, far=net.far, gateway_options=("--ttl", str(LEASE_S))) as lab:
        agent = lab.ready_agent()
        with net.dropped(port=SSH_PORT):
            wait_for("the gateway drops the machine", lambda: lab.gateway.machine(agent.machine_id) is None)
            wait_for(
                "the agent considers its lease expired", lambda: agent.status()["keepalive"]["ttl_s"] is None
            )
        healed_s = time.monotonic()
        wait_for("placeable again", lambda: lab.gateway.would_place(agent.machine_id)[0])
        back_s = time.monotonic() - healed_s
        agent.wait_back()
        seen = len(lab.gateway.requests("keepalive", agent.machine_id))
        wait_for(
            "two more keepalives",
            lambda: len(lab.gateway.requests("keepalive", agent.machine_id)) >= seen + 2,
        )
        registered = [each for each in lab.gateway.requests("register") if each["status"] == 200]
        assert [each["machine_id"] for each in registered] == [agent.machine_id] * 2
    report(
        f"one new registration of the same machine, placeable {back_s:.1f} s after the heal",
        back_s,
    )


@pytest.mark.fault(12)
def test_fault_12_the_machines_address_changes(lab: Lab, net: Wire, report: Report) -> None:
    agent = lab.ready_agent()
    before = generations(agent)
    net.readdress("10.231.0.77")
    began_s = time.monotonic()
    wait_replaced(agent, before)
    took_s = time.monotonic() - began_s
    assert took_s <= within(15)
    # While the old session holds its address at sshd, the agent takes the next one and registers it.
    times = agent.status()["registration"]["times"]
    assert times <= 2
    assert lab.gateway.would_place(agent.machine_id)[0]
    assert (lab.gateway.machine(agent.machine_id) or {})["hostname"] == agent.status()["tunnel"]["reverse"][
        "address"
    ]
    report(f"back at the new address after {took_s:.1f} s, registered {times} times in all", took_s)


@pytest.mark.fault(13)
def test_fault_13_a_fifth_of_all_packets_lost(lab: Lab, net: Wire, report: Report) -> None:
    """A fifth in each direction, for the whole minute."""
    agent = lab.ready_agent(BETA9_KEEPALIVE_INTERVAL="5")
    with net.lossy(port=SSH_PORT, probability=0.2):
        watch_undisturbed(agent, 60)
        lost = net.dropped_packets()
    assert lost > 50
    counters = agent.status()["counters"]["keepalives"]
    assert counters["ok"] >= 10
    report(
        f"{lost} packets lost, no reconnect, {counters['ok']} keepalives, {counters['failed']} failed",
        60,
    )


# --- Row 15: bulk traffic beside the keepalives ----------------------------------------------------------------


@dataclass
class Bulk:
    """Bytes received at either end."""

    up: int = 0
    down: int = 0


def _send_all(end: socket.socket) -> None:
    block = bytes(65536)
    try:
        while True:
            end.sendall(block)
    except OSError:  # the test has shut it down
        return


def _receive_all(end: socket.socket, add: Callable[[int], None]) -> None:
    try:
        while data := end.recv(65536):
            add(len(data))
    except OSError:  # the test has shut it down
        return


@contextmanager
def bulk(near: Place, near_port: int, listener: socket.socket) -> Iterator[Bulk]:
    """Let both ends of a connection through the `data` tunnel send as much as they can."""
    received = Bulk()
    with near.inside():
        client = socket.create_connection(("127.0.0.1", near_port), timeout=10)
    listener.settimeout(10)
    server = listener.accept()[0]
    for end in (client, server):
        end.settimeout(None)

    def add_up(count: int) -> None:
        received.up += count

    def add_down(count: int) -> None:
        received.down += count

    threads = [
        threading.Thread(target=_send_all, args=(client,)),
        threading.Thread(target=_send_all, args=(server,)),
        threading.Thread(target=_receive_all, args=(server, add_up)),
        threading.Thread(target=_receive_all, args=(client, add_down)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield received
    finally:
        for end in (client, server):
            end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        client.close()
        server.close()


@pytest.mark.fault(15)
def test_fault_15_a_narrow_wire_full_of_bulk_traffic(lab: Lab, net: Wire, report: Report) -> None:
    """Scaled: a keepalive every second instead of every minute, for half a minute."""
    with net.far.inside():
        listener = socket.create_server(("127.0.0.1", 7002))
    with listener:
        agent = lab.agent(BETA9_KEEPALIVE_INTERVAL="1", BETA9_SSH_FORWARDS="7001:127.0.0.1:7002")
        grant = Grant(machine_ids=(agent.machine_id,), targets=(lab.target, "127.0.0.1:7002"))
        lab.sshd.authorize(key_line(lab.sshd.public_key(), grant))
        agent.start().wait_back()
        wait_for("data is up", lambda: agent.status()["tunnel"]["data"]["up"])
        with net.narrow("1mbit"), bulk(net.near, 7001, listener) as received:
            before = agent.status()["counters"]["keepalives"]["ok"]
            began_s = time.monotonic()
            watch_undisturbed(agent, 30)
            took_s = time.monotonic() - began_s
            counters = agent.status()["counters"]["keepalives"]
    rates = received.up * 8 / took_s / 1e6, received.down * 8 / took_s / 1e6
    assert min(rates) > 0.4
    assert counters["failed"] == 0
    assert counters["ok"] - before >= 20
    report(
        f"{counters['ok'] - before} keepalives, none failed, beside {rates[0]:.1f}/{rates[1]:.1f} Mbit/s of bulk",
        took_s,
    )


# --- Names and sshd's own settings ---------------------------------------------------------------------------


@pytest.mark.fault(16)
def test_fault_16_names_are_not_resolved(lab: Lab, net: Wire, report: Report) -> None:
    known = lab.directory / "known_hosts_by_name"
    known.write_text(lab.sshd.known_hosts.replace(FAR_ADDRESS, NAME))
    with name_server(net.near) as names, resolver(net.near):
        agent = lab.agent(BETA9_SSH_HOST=NAME, BETA9_SSH_KNOWN_HOSTS_FILE=str(known))
        agent.start()
        wait_for("the reason in /status", lambda: "resolved" in reason(agent))
        asked = len(names.asked)
        wait_for("another query", lambda: len(names.asked) > asked)
        names.table[NAME] = "127.0.0.99"
        wait_for("the address is tried", lambda: "refused" in reason(agent))
        names.table[NAME] = FAR_ADDRESS
        healed_s = time.monotonic()
        agent.wait_back()
        first_s = time.monotonic() - healed_s
        names.table.clear()
        lab.sshd.signal_sessions()
        wait_for("the reason in /status again", lambda: "resolved" in reason(agent))
        names.table[NAME] = FAR_ADDRESS
        healed_s = time.monotonic()
        agent.wait_back()
        later_s = time.monotonic() - healed_s
        assert agent.status()["registration"]["times"] == 1
        agent.stop()
    report(
        f"back {first_s:.1f} s (at start, with a wrong address in between) and {later_s:.1f} s (later) after the heal",
        max(first_s, later_s),
    )


def listener_on(place: Place, port: int) -> str | None:
    """Return the address of the listener on `port` in that namespace, or None. See /proc/net/tcp in proc(5)."""
    for line in place.run("cat", "/proc/net/tcp").splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A" and int(local.partition(":")[2], 16) == port:
            return socket.inet_ntoa(int(local.partition(":")[0], 16).to_bytes(4, "little"))
    return None


@pytest.mark.fault(25)
def test_fault_25_sshd_binds_another_address_in_silence(tmp_path: Path, net: Wire, report: Report) -> None:
    """Scaled: the pause between attempts, 15 to 30 s, is 2 to 4 s, so that the test need not wait for the recovery."""
    with laboratory(tmp_path, near=net.near, far=net.far, sshd_options={"GatewayPorts": "no"}) as lab:
        agent = lab.agent({"backoff_cap_s": 4})
        began_s = time.monotonic()
        agent.start()
        line = "GatewayPorts clientspecified"
        wait_for(
            "the reason in /status",
            lambda: line in reason(agent, "reverse"),
        )
        noticed_s = time.monotonic() - began_s
        bound = wait_for("sshd binds another address", lambda: listener_on(net.far, 6443))
        assert bound == "127.0.0.1"
        logged = [event for event in agent.events("tunnel_reverse_down") if line in event["text"]]
        assert logged
        assert logged[0]["reason"] == "gateway_ports"
        assert not agent.status()["capacity"]["offered"]
        lab.sshd.reconfigure({"GatewayPorts": "clientspecified"})
        agent.wait_back()
    report(
        f"sshd had bound {bound} instead; '{line}' in the log and /status after {noticed_s:.1f} s, back once set",
        noticed_s,
    )
