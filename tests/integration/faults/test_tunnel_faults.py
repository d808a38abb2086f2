"""Fault rows 1 to 6, 11, 14 and 17: children and sessions that die, freeze or are cut off, on one host."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest

from agent.demo.sshd.sessions import Session
from agent.demo.sshd.throwaway import HOST
from tests.integration.bounds import at_least, within
from tests.integration.lab import AgentProcess, Lab, wait_for
from tests.integration.proxy import proxied
from tests.integration.told import Tell
from tests.integration.watching import generations, known_at, reason, wait_replaced, watch_quiet

CONNECT_TIMEOUT_S = 5
PURPOSES = ("api", "reverse")


def session_of(lab: Lab, agent: AgentProcess, purpose: str) -> Session:
    """sshd's end of one child."""
    address = agent.status()["tunnel"]["reverse"]["address"]
    held = f"{address}:6443"
    found = [each for each in lab.sshd.sessions() if (held in each.listens) == (purpose == "reverse")]
    assert len(found) == 1, found
    return found[0]


def time_replaced(agent: AgentProcess, purpose: str, fault: Callable[[], object]) -> float:
    """Seconds from the fault until another child serves and the machine is back."""
    before = {purpose: generations(agent)[purpose]}
    began_s = time.monotonic()
    fault()
    wait_replaced(agent, before)
    return time.monotonic() - began_s


@pytest.mark.fault(1)
def test_fault_01_ssh_child_killed(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent()
    took_s = {}
    for purpose in PURPOSES:
        pid = agent.ssh_pids()[purpose]
        took_s[purpose] = time_replaced(agent, purpose, partial(os.kill, pid, signal.SIGKILL))
    assert max(took_s.values()) <= within(3)
    assert agent.status()["registration"]["times"] == 1
    tell(f"api {took_s['api']:.1f} s, reverse {took_s['reverse']:.1f} s", max(took_s.values()))


@pytest.mark.fault(2)
def test_fault_02_ssh_child_stopped(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent()
    pid = agent.ssh_pids()["api"]
    took_s = time_replaced(agent, "api", lambda: os.kill(pid, signal.SIGSTOP))
    assert took_s <= within(15)
    assert agent.ssh_pids()["api"] != pid
    assert pid not in agent.ssh_pids().values()
    assert agent.status()["counters"]["tunnel_restarts"] == {"silent": 1}
    tell(
        f"replaced for its silence, back after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(3)
def test_fault_03_sshds_session_killed(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent()
    took_s = {}
    for purpose in PURPOSES:
        session = session_of(lab, agent, purpose)
        took_s[purpose] = time_replaced(agent, purpose, partial(session.signal, signal.SIGKILL))
    assert max(took_s.values()) <= within(3)
    tell(f"api {took_s['api']:.1f} s, reverse {took_s['reverse']:.1f} s", max(took_s.values()))


@pytest.mark.fault(4)
def test_fault_04_sshds_session_stopped(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent()
    address, api = agent.status()["tunnel"]["reverse"]["address"], agent.ssh_pids()["api"]
    session_of(lab, agent, "reverse").signal(signal.SIGSTOP)
    began_s = time.monotonic()
    wait_for("noticed", lambda: not agent.status()["tunnel"]["reverse"]["up"])
    noticed_s = time.monotonic() - began_s
    agent.wait_back()
    back_s = time.monotonic() - began_s
    assert noticed_s <= within(15)
    now = agent.status()["tunnel"]["reverse"]["address"]
    assert now != address
    assert lab.gateway.would_place(agent.machine_id)[0]
    assert (lab.gateway.machine(agent.machine_id) or {})["hostname"] == now
    assert agent.ssh_pids()["api"] == api
    tell(
        f"noticed after {noticed_s:.1f} s, serving at the next address after {back_s:.1f} s, same api child",
        back_s,
    )


@pytest.mark.fault(5)
def test_fault_05_sshds_listener_stopped_sessions_alive(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent(BETA9_KEEPALIVE_INTERVAL="1")
    before = agent.status()["counters"]["keepalives"]["ok"]
    os.kill(lab.sshd.listener_pid, signal.SIGSTOP)
    try:
        watch_quiet(agent, 15)
    finally:
        os.kill(lab.sshd.listener_pid, signal.SIGCONT)
    counters = agent.status()["counters"]["keepalives"]
    assert counters["failed"] == 0
    assert counters["ok"] > before + 5
    tell("nothing in 15 s: same children, offered, every keepalive accepted", 15)


@pytest.mark.fault(6)
def test_fault_06_accepts_and_shows_no_banner(lab: Lab, tell: Tell) -> None:
    with proxied((HOST, lab.sshd.port)) as proxy:
        proxy.mute = True
        agent = lab.agent(**known_at(lab, proxy.port))
        began_s = time.monotonic()
        agent.start()
        wait_for("the attempt ended", lambda: "timed out" in reason(agent))
        ended_s = time.monotonic() - max(began_s, proxy.accepted_at_s[0])
        wait_for("four more attempts", lambda: len(proxy.accepted_at_s) >= 6)
        # The first attempt is both children's, one perhaps a while before the other; from then on one asks for all.
        gaps_s = [b - a for a, b in itertools.pairwise(proxy.accepted_at_s[2:])]
        assert ended_s <= within(CONNECT_TIMEOUT_S + 2)
        assert min(gaps_s) >= at_least(CONNECT_TIMEOUT_S - 0.5)
        assert agent.events("tunnel_api_down")[0]["reason"] == "unreachable"
        proxy.mute = False
        agent.wait_back()
    pauses = ", ".join(f"{max(0.0, gap - CONNECT_TIMEOUT_S):.1f}" for gap in gaps_s)
    tell(
        f"ended after {ended_s:.1f} s, pauses of {pauses} s, back once it spoke",
        ended_s,
    )


@pytest.mark.fault(11)
def test_fault_11_connection_reset(lab: Lab, tell: Tell) -> None:
    with proxied((HOST, lab.sshd.port)) as proxy:
        agent = lab.agent(**known_at(lab, proxy.port))
        agent.start().wait_back()
        before, began_s = generations(agent), time.monotonic()
        assert proxy.reset() == 4, "both children's connections, two ends each"
        wait_replaced(agent, before)
        took_s = time.monotonic() - began_s
    assert took_s <= within(3)
    assert agent.status()["registration"]["times"] == 1
    tell(f"both children reset, back after {took_s:.1f} s", took_s)


@pytest.mark.fault(14)
def test_fault_14_three_hundred_milliseconds_of_latency(lab: Lab, tell: Tell) -> None:
    """A round trip takes 300 ms more: 150 ms each way."""
    with proxied((HOST, lab.sshd.port), delay_s=0.15) as proxy:
        agent = lab.agent(BETA9_KEEPALIVE_INTERVAL="2", **known_at(lab, proxy.port))
        agent.start().wait_back()
        assert agent.status()["probes"]["forward_s"] >= 0.3
        watch_quiet(agent, 30)
        counters = agent.status()["counters"]["keepalives"]
    assert counters["failed"] == 0
    probe_s = agent.status()["probes"]["reverse_s"]
    tell(
        f"none in 30 s, {counters['ok']} keepalives accepted, the reverse probe took {probe_s:.1f} s",
        30,
    )


@pytest.mark.fault(17)
def test_fault_17_a_dead_session_still_holds_the_address(lab: Lab, tell: Tell) -> None:
    agent = lab.ready_agent()
    address, pids = agent.status()["tunnel"]["reverse"]["address"], agent.ssh_pids()
    session_of(lab, agent, "reverse").signal(signal.SIGSTOP)
    took_s = time_replaced(agent, "reverse", lambda: os.kill(pids["reverse"], signal.SIGKILL))
    assert took_s <= within(5)
    assert agent.status()["tunnel"]["reverse"]["address"] != address
    assert agent.ssh_pids()["api"] == pids["api"]
    tell(
        f"serving at the next address after {took_s:.1f} s, same api child",
        took_s,
    )
