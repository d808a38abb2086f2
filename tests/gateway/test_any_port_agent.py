"""A real agent, ssh and sshd with the hairpin: the form of any port up to READY, and fault rows 72 to 75.

The relay is reduced to what the worker's side needs (tiny_relay.py).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.core.tunnel.addresses import POOL_PATTERNS, candidates
from tests.gateway.machine import PUBLISHED, container, greeter, traces
from tests.gateway.tiny_relay import socks_dial, tiny_relay
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.lab import AgentProcess, Lab, laboratory
from tests.integration.netns import Wire, wire
from tests.integration.polling import wait_for

pytestmark = pytest.mark.gateway
MACHINE_ID = "1165a9b6"
ADDRESSES = candidates(MACHINE_ID)
TUNING = {"relay_lost_s": 4, "any_port_retry_s": 8}


@pytest.fixture
def net() -> Iterator[Wire]:
    with wire() as made:
        yield made


@contextmanager
def lab_of(net: Wire, directory: Path, **options: object) -> Iterator[Lab]:
    everywhere = ("--host", "0.0.0.0")
    with laboratory(directory, near=net.near, far=net.far, kubernetes_options=everywhere, **options) as lab:
        yield lab


@pytest.fixture
def lab(net: Wire, tmp_path: Path) -> Iterator[Lab]:
    with lab_of(net, tmp_path) as made:
        yield made


def machine(lab: Lab, reverse: str = "auto", **settings: str) -> AgentProcess:
    return lab.agent(TUNING, BETA9_MACHINE_ID=MACHINE_ID, BETA9_REVERSE=reverse, **settings)


def is_any_port(agent: AgentProcess) -> bool:
    status = agent.status()
    return bool(status["tunnel"]["reverse_form"]["any_port"] and status["tunnel"]["reverse"]["up"])


def greeting(lab: Lab, agent: AgentProcess, port: int) -> bytes:
    """What the gateway's side gets from a port of the machine; nothing if it is refused."""
    try:
        with socks_dial(lab.far, agent.status()["tunnel"]["reverse"]["address"], port) as stream:
            return stream.recv(100)
    except OSError:
        return b""


def test_any_port_is_reached_by_way_of_the_hairpin_and_nothing_else(lab: Lab, net: Wire) -> None:
    with ExitStack() as stack:
        stack.enter_context(tiny_relay(net.far, ADDRESSES))
        agent = machine(lab).start()
        agent.wait_back()
        status = agent.status()
        assert is_any_port(agent)
        assert status["functions"] == {"can_run": True, "reason": None}
        stack.enter_context(container(net.near))
        stack.enter_context(greeter(net.near, "0.0.0.0", 4000, b"grpc"))
        stack.enter_context(greeter(net.near, "127.0.0.1", 4001, b"secret"))
        assert greeting(lab, agent, PUBLISHED) == b"container"
        assert greeting(lab, agent, 4000) == b"grpc"
        for port, target in (
            (4001, "198.18.0.2"),
            (4001, "127.0.0.1"),
            (4000, "198.18.0.1"),
            (4999, "198.18.0.2"),
        ):
            with pytest.raises(OSError, match="refused"):
                socks_dial(net.far, ADDRESSES[0], port, target).close()
        assert agent.stop() == 0
    assert traces(net.near) == ""


def test_while_k3s_is_frozen_its_port_is_refused_and_the_others_go_on(lab: Lab, net: Wire) -> None:
    with tiny_relay(net.far, ADDRESSES), greeter(net.near, "0.0.0.0", 4000, b"grpc"):
        agent = machine(lab).start()
        agent.wait_back()
        before = agent.ssh_pids()
        hanging = socks_dial(net.far, ADDRESSES[0], 6443)
        hanging.settimeout(within(12))
        began_s = time.monotonic()
        with net.near.inside():
            lab.kubernetes.freeze()
        assert hanging.recv(1) == b"", "the connection at the frozen k3s hangs"
        assert time.monotonic() - began_s <= within(10)
        hanging.close()
        with pytest.raises(OSError, match="refused"):
            socks_dial(net.far, ADDRESSES[0], 6443).close()
        wait_for("nothing is offered", lambda: not agent.status()["capacity"]["offered"])
        assert greeting(lab, agent, 4000) == b"grpc"
        with net.near.inside():
            lab.kubernetes.thaw()
        agent.wait_back()
        assert agent.ssh_pids() == before


@pytest.mark.fault(72)
def test_fault_72_the_agents_own_ssh_child_is_frozen(lab: Lab, net: Wire, report: Report) -> None:
    """The worker's side of the row: the agent kills the child and starts another."""
    with tiny_relay(net.far, ADDRESSES):
        agent = machine(lab).start()
        agent.wait_back()
        frozen = agent.ssh_pids()["reverse"]
        began_s = time.monotonic()
        os.kill(frozen, signal.SIGSTOP)
        wait_for("another child", lambda: agent.ssh_pids().get("reverse") not in {frozen, None})
        agent.wait_back()
        took_s = time.monotonic() - began_s
    assert is_any_port(agent)
    assert took_s <= within(20)
    report(f"replaced, and back after {took_s:.1f} s", took_s)


@pytest.mark.fault(73)
def test_fault_73_the_hairpin_is_removed_by_hand(lab: Lab, net: Wire, report: Report) -> None:
    net.near.run("iptables", "-w", "-P", "FORWARD", "DROP")
    for name in ("all", "default"):
        net.near.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=1")
    with tiny_relay(net.far, ADDRESSES), container(net.near):
        agent = machine(lab).start()
        agent.wait_back()
        assert greeting(lab, agent, PUBLISHED) == b"container"
        before, began_s = agent.ssh_pids(), time.monotonic()
        net.near.run("ip", "link", "del", "b9-hairpin")
        wait_for("the container answers again", lambda: greeting(lab, agent, PUBLISHED) == b"container")
        took_s = time.monotonic() - began_s
        assert took_s <= within(10)
        assert agent.ssh_pids() == before
        net.near.run("nft", "add table inet firewall")
        net.near.run("nft", "add chain inet firewall in { type filter hook input priority 10; policy drop; }")
        net.near.run("nft", "add rule inet firewall in iifname != b9-hairpin accept")
        wait_for("it is named", lambda: "b9-hairpin" in (agent.status()["capacity"]["reason"] or ""))
        net.near.run("nft", "delete table inet firewall")
        agent.wait_back()
    report(f"repaired after {took_s:.1f} s, with the same child; a firewall in its way is named", took_s)


@pytest.mark.fault(74)
def test_fault_74_the_range_is_taken(lab: Lab, net: Wire, report: Report) -> None:
    net.near.run("ip", "route", "add", "198.18.0.0/15", "via", net.far.address)
    with tiny_relay(net.far, ADDRESSES):
        agent = machine(lab).start()
        wait_for(
            "it is named",
            lambda: (
                "198.18.0.0/15" in ((agent.get("/status")[1] or {}).get("capacity", {}).get("reason") or "")
            ),
        )
        assert not lab.gateway.would_place(MACHINE_ID)[0]
        net.near.run("ip", "route", "del", "198.18.0.0/15")
        agent.wait_back()
        assert is_any_port(agent)
        net.near.run("ip", "address", "add", "192.168.1.77/24", "dev", "wire0")
        wait_for("can_run is false", lambda: not agent.status()["functions"]["can_run"])
        assert "192.168.1.0/24" in agent.status()["functions"]["reason"]
    report(
        "the route is named and nothing is offered until it is gone; the containers' network is named", 0.0
    )


@pytest.mark.fault(75)
def test_fault_75_sshd_grants_6443_and_not_1080(net: Wire, tmp_path: Path, report: Report) -> None:
    only_6443 = {"PermitListen": " ".join(f"{pattern}:6443" for pattern in POOL_PATTERNS)}
    with lab_of(net, tmp_path, sshd_options=only_6443) as lab:
        agent = machine(lab).start()
        agent.wait_back()
        functions = agent.status()["functions"]
        assert not functions["can_run"]
        assert "1080" in functions["reason"]
        assert "beta9-worker authorize" in functions["reason"]
        assert lab.gateway.would_place(MACHINE_ID)[0]
        assert any("1080" in text for text in agent.status()["degraded"])
    report("the plain form stands in, and says what is missing", 0.0)


def test_a_relay_that_is_gone_for_long_costs_the_form(lab: Lab, net: Wire) -> None:
    with tiny_relay(net.far, ADDRESSES):
        agent = machine(lab).start()
        agent.wait_back()
        assert is_any_port(agent)
    wait_for("the plain form", lambda: not agent.status()["tunnel"]["reverse_form"]["any_port"])
    agent.wait_back()
    assert not agent.status()["functions"]["can_run"]
