"""The hairpin in a real kernel, and fault rows 73 and 74: what it reaches, what it does not, and how it is repaired."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from agent.core.hairpin.layout import ACCEPTS, INTERFACE
from tests.gateway.machine import PUBLISHED, HairpinProcess, container, dial, greeter, traces
from tests.integration.netns import Place, wire
from tests.integration.polling import wait_for

pytestmark = pytest.mark.gateway
K3S = 16443


@pytest.fixture
def machine() -> Iterator[Place]:
    with wire() as net:
        yield net.near


@pytest.fixture
def hairpin(machine: Place) -> Iterator[HairpinProcess]:
    with HairpinProcess(machine, k3s_port=K3S) as kept:
        assert kept.check()["fault"] is None
        yield kept


def test_it_reaches_containers_and_services_and_not_what_listens_on_loopback(hairpin: HairpinProcess) -> None:
    machine = hairpin.place
    with (
        container(machine),
        greeter(machine, "0.0.0.0", 4000, b"grpc"),
        greeter(machine, "127.0.0.1", 4001, b"x"),
    ):
        assert dial(machine, PUBLISHED).answer == b"container"
        assert dial(machine, 4000).answer == b"grpc"
        assert dial(machine, 4001).error == "Connection refused"
        # Why there is a hairpin at all.
        assert dial(machine, PUBLISHED, "127.0.0.1").answer is None
        assert dial(machine, PUBLISHED, machine.address).answer is None
    refused = min((dial(machine, 4002) for _ in range(5)), key=lambda each: each.took_s)
    assert refused.error == "Connection refused"
    assert refused.took_s <= 0.05


def test_a_source_port_that_equals_the_port_dialled_is_no_special_case(hairpin: HairpinProcess) -> None:
    with container(hairpin.place):
        assert dial(hairpin.place, PUBLISHED, source_port=PUBLISHED).answer == b"container"


def test_6443_leads_to_k3s_and_is_rejected_alone_while_that_does_not_answer(hairpin: HairpinProcess) -> None:
    machine = hairpin.place
    with (
        greeter(machine, "0.0.0.0", K3S, b"k3s"),
        greeter(machine, "0.0.0.0", 4000, b"grpc"),
        machine.inside(),
        socket.create_connection(("198.18.0.2", 4000), 5) as other,
    ):
        assert dial(machine, 6443).answer == b"k3s"
        assert hairpin.check("open", "k3s")["k3s_missed"] is None
        assert hairpin.check("closed")["fault"] is None
        assert dial(machine, 6443).error == "Connection refused"
        assert other.recv(10) == b"grpc"
        assert dial(machine, 4000).answer == b"grpc"
        assert hairpin.check("open")["fault"] is None
        assert dial(machine, 6443).answer == b"k3s"


def test_connections_that_hang_at_a_frozen_k3s_are_cut(hairpin: HairpinProcess) -> None:
    with (
        hairpin.place.inside(),
        socket.create_server(("0.0.0.0", K3S)),
        socket.create_connection(("198.18.0.2", 6443), 5) as hanging,
    ):
        assert not hairpin.check("closed")["uncut"]
        with pytest.raises(OSError, match=r"abort|reset"):
            hanging.recv(1)


def test_a_k3s_on_loopback_only_is_named(hairpin: HairpinProcess) -> None:
    with greeter(hairpin.place, "127.0.0.1", K3S, b"k3s"):
        missed = hairpin.check("open", "k3s")["k3s_missed"]
    assert "bind-address" in missed
    assert f"198.18.0.1:{K3S}" in missed


def test_neighbours_and_containers_cannot_enter_it(hairpin: HairpinProcess) -> None:
    """They would come back as from the machine itself, past its firewall."""
    machine = hairpin.place
    machine.run("iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", INTERFACE, "-j", "MASQUERADE")
    with container(machine) as inner, greeter(machine, "0.0.0.0", 4000, b"grpc"):
        assert dial(inner, 4000, "192.168.1.1").answer == b"grpc"
        assert dial(inner, 4000).answer is None


# --- Row 73 ----------------------------------------------------------------------------------------------

DAMAGE = {
    "link removed": "ip link del b9-hairpin",
    "link down": "ip link set b9-hairpin down",
    "address removed": "ip address flush dev b9-hairpin",
    "iptables flushed": "iptables -w -F",
    "rules flushed": "nft flush ruleset",
    "route removed": "ip route del 198.18.0.0/30 dev b9-hairpin",
}


@pytest.mark.parametrize("command", DAMAGE.values(), ids=DAMAGE)
def test_what_was_removed_by_hand_is_there_again_after_the_next_check(
    hairpin: HairpinProcess, command: str
) -> None:
    machine = hairpin.place
    machine.run("iptables", "-w", "-P", "FORWARD", "DROP")
    machine.run(*command.split())
    assert hairpin.check()["fault"] is None
    machine.run("iptables", "-w", "-P", "FORWARD", "DROP")
    with container(machine):
        assert dial(machine, PUBLISHED).answer == b"container"
    rules = [line for line in machine.run("iptables", "-w", "-S").splitlines() if INTERFACE in line]
    assert sorted(rules) == sorted(f"-A {chain} {rule}" for chain, rule in ACCEPTS)


@pytest.mark.parametrize("name", ["link removed", "link down", "address removed", "route removed"])
def test_a_quick_check_notices_that_connections_do_not_come_through(
    hairpin: HairpinProcess, name: str
) -> None:
    assert not hairpin.check("open", "quickly")["inspected"]
    hairpin.place.run(*DAMAGE[name].split())
    found = hairpin.check("open", "quickly")
    assert found["inspected"]
    assert found["fault"] is None
    with greeter(hairpin.place, "0.0.0.0", 4000, b"grpc"):
        assert dial(hairpin.place, 4000).answer == b"grpc"


@pytest.mark.parametrize("chain", ["FORWARD", "INPUT"])
def test_a_policy_of_drop_and_strict_reverse_path_filters_do_no_harm(
    hairpin: HairpinProcess, chain: str
) -> None:
    machine = hairpin.place
    machine.run("iptables", "-w", "-P", chain, "DROP")
    for name in ("all", "default", INTERFACE):
        machine.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=1")
    assert hairpin.check()["fault"] is None
    with container(machine), greeter(machine, "0.0.0.0", 4000, b"grpc"):
        assert dial(machine, PUBLISHED).answer == b"container"
        assert dial(machine, 4000).answer == b"grpc"


def test_a_firewall_of_another_kind_is_named(hairpin: HairpinProcess) -> None:
    machine = hairpin.place
    machine.run("nft", "add table inet firewall")
    machine.run("nft", "add chain inet firewall in { type filter hook input priority 10; policy drop; }")
    fault = hairpin.check()["fault"]
    assert fault["kind"] == "broken"
    assert INTERFACE in fault["message"]
    machine.run("nft", "delete table inet firewall")
    assert hairpin.check()["fault"] is None


def test_while_it_is_away_nothing_leaves_by_the_default_route(hairpin: HairpinProcess) -> None:
    machine = hairpin.place
    machine.run("ip", "route", "add", "default", "via", "10.231.0.1")
    machine.run("ip", "link", "del", INTERFACE)
    found = dial(machine, 4000)
    assert found.error == "No route to host"
    assert found.took_s < 1


# --- Row 74, and its life --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("ip address add 198.18.0.1/16 dev wire0", "198.18.0.0/16 dev wire0"),
        ("ip route add 198.18.0.0/15 via 10.231.0.1", "198.18.0.0/15 via 10.231.0.1 dev wire0"),
    ],
)
def test_a_range_that_is_taken_is_named_with_its_route(machine: Place, command: str, named: str) -> None:
    machine.run(*command.split())
    with HairpinProcess(machine) as hairpin:
        fault = hairpin.check()["fault"]
        assert fault["kind"] == "taken"
        assert named in fault["message"]
        machine.run(*command.replace(" add ", " del ").split())
        assert hairpin.check()["fault"] is None
        machine.run(*command.split())
        assert hairpin.check()["fault"]["kind"] == "taken"
    with HairpinProcess(machine, "10.99.0.0/30") as hairpin:
        assert hairpin.check()["fault"] is None


def test_a_machine_in_the_containers_network_is_told(machine: Place) -> None:
    machine.run("ip", "address", "add", "192.168.1.77/24", "dev", "wire0")
    with HairpinProcess(machine) as hairpin:
        found = hairpin.check()
    assert found["fault"] is None
    assert "192.168.1.0/24" in found["containers"]


def test_it_is_removed_with_the_agent_whether_that_ends_or_is_killed(machine: Place) -> None:
    hairpin = HairpinProcess(machine)
    hairpin.check()
    assert traces(machine)
    hairpin.close()
    assert traces(machine) == ""
    killed = HairpinProcess(machine)
    killed.check()
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait(10)
    wait_for("the kernel removes the pair", lambda: INTERFACE not in machine.run("ip", "-o", "link", "show"))
    assert dial(machine, 4000).error == "No route to host"
    with HairpinProcess(machine) as following:
        assert following.check()["fault"] is None
    assert traces(machine) == ""
    for pipe in (killed.process.stdin, killed.process.stdout):
        assert pipe is not None
        pipe.close()


def test_a_second_agent_on_the_machine_is_told(hairpin: HairpinProcess) -> None:
    with HairpinProcess(hairpin.place) as second:
        assert "another agent" in second.check()["fault"]["message"]
    assert hairpin.check()["fault"] is None


@pytest.mark.parametrize("dropped", ["cap_net_admin", "cap_sys_admin"])
def test_without_the_capabilities_it_says_what_it_needs(machine: Place, dropped: str) -> None:
    argv = [*machine.prefix, "setpriv", f"--bounding-set=-{dropped.removeprefix('cap_')}"]
    import sys

    argv += [sys.executable, "-m", "tests.gateway.hairpin_process", "198.18.0.0/30", "6443"]
    done = subprocess.run(argv, input="open\n", capture_output=True, text=True, check=True, timeout=60)
    assert '"kind": "unable"' in done.stdout
    assert "CAP_NET_ADMIN" in done.stdout
