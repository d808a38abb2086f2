"""Fault rows 1 to 6, 11, 14 and 17: ssh children and sshd sessions that die, freeze or are cut off, on one host."""

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
from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import at_least, within
from tests.integration.fault_report import Report
from tests.integration.lab import Lab
from tests.integration.polling import wait_for
from tests.integration.proxy import proxied
from tests.integration.tunnel_watch import (
    generations,
    reason,
    settings_for_port,
    wait_replaced,
    watch_undisturbed,
)

CONNECT_TIMEOUT_S = 5
PURPOSES = ("api", "reverse")


def session_of(lab: Lab, agent: AgentProcess, purpose: str) -> Session:
    """Return sshd's session of one ssh child."""
    address = agent.status()["tunnel"]["reverse"]["address"]
    listener = f"{address}:6443"
    found = [each for each in lab.sshd.sessions() if (listener in each.listens) == (purpose == "reverse")]
    assert len(found) == 1, found
    return found[0]


def time_replaced(agent: AgentProcess, purpose: str, fault: Callable[[], object]) -> float:
    """Cause the fault; return the seconds until the child has been replaced and the machine is back."""
    before = {purpose: generations(agent)[purpose]}
    began_s = time.monotonic()
    fault()
    wait_replaced(agent, before)
    return time.monotonic() - began_s


@pytest.mark.fault(1)
def test_fault_01_ssh_child_killed(lab: Lab, report: Report) -> None:
    agent = lab.ready_agent()
    took_s = {}
    for purpose in PURPOSES:
        pid = agent.ssh_pids()[purpose]
        took_s[purpose] = time_replaced(agent, purpose, partial(os.kill, pid, signal.SIGKILL))
    assert max(took_s.values()) <= within(3)
    assert agent.status()["registration"]["times"] == 1
    report(f"api {took_s['api']:.1f} s, reverse {took_s['reverse']:.1f} s", max(took_s.values()))


@pytest.mark.fault(2)
def test_fault_02_ssh_child_stopped(lab: Lab, report: Report) -> None:
    agent = lab.ready_agent()
    pid = agent.ssh_pids()["api"]
    took_s = time_replaced(agent, "api", lambda: os.kill(pid, signal.SIGSTOP))
    assert took_s <= within(15)
    assert agent.ssh_pids()["api"] != pid
    assert pid not in agent.ssh_pids().values()
    assert agent.status()["counters"]["tunnel_restarts"] == {"silent": 1}
    report(
        f"replaced because it was silent, back after {took_s:.1f} s",
        took_s,
    )


@pytest.mark.fault(3)
def test_fault_03_sshds_session_killed(lab: Lab, report: Report) -> None:
    agent = lab.ready_agent()
    took_s = {}
    for purpose in PURPOSES:
        session = session_of(lab, agent, purpose)
        took_s[purpose] = time_replaced(agent, purpose, partial(session.signal, signal.SIGKILL))
    assert max(took_s.values()) <= within(3)
    report(f"api {took_s['api']:.1f} s, reverse {took_s['reverse']:.1f} s", max(took_s.values()))


@pytest.mark.fault(4)
def test_fault_04_sshds_session_stopped(lab: Lab, report: Report) -> None:
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
    report(
        f"noticed after {noticed_s:.1f} s, at the next address after {back_s:.1f} s, same api child",
        back_s,
    )


@pytest.mark.fault(5)
def test_fault_05_sshds_listener_stopped_sessions_alive(lab: Lab, report: Report) -> None:
    agent = lab.ready_agent(BETA9_KEEPALIVE_INTERVAL="1")
    before = agent.status()["counters"]["keepalives"]["ok"]
    os.kill(lab.sshd.listener_pid, signal.SIGSTOP)
    try:
        watch_undisturbed(agent, 15)
    finally:
        os.kill(lab.sshd.listener_pid, signal.SIGCONT)
    counters = agent.status()["counters"]["keepalives"]
    assert counters["failed"] == 0
    assert counters["ok"] > before + 5
    report("nothing in 15 s: same children, offered, every keepalive accepted", 15)


@pytest.mark.fault(6)
def test_fault_06_accepts_and_shows_no_banner(lab: Lab, report: Report) -> None:
    with proxied((HOST, lab.sshd.port)) as proxy:
        proxy.mute = True
        agent = lab.agent(**settings_for_port(lab, proxy.port))
        began_s = time.monotonic()
        agent.start()
        wait_for("the end of the attempt", lambda: "timed out" in reason(agent))
        ended_s = time.monotonic() - max(began_s, proxy.accepted_at_s[0])
        wait_for("four more attempts", lambda: len(proxy.accepted_at_s) >= 6)
        # Both children make the first attempt, not quite at the same time; from then on only one tries.
        gaps_s = [b - a for a, b in itertools.pairwise(proxy.accepted_at_s[2:])]
        assert ended_s <= within(CONNECT_TIMEOUT_S + 2)
        assert min(gaps_s) >= at_least(CONNECT_TIMEOUT_S - 0.5)
        assert agent.events("tunnel_api_down")[0]["reason"] == "unreachable"
        proxy.mute = False
        agent.wait_back()
    pauses = ", ".join(f"{max(0.0, gap - CONNECT_TIMEOUT_S):.1f}" for gap in gaps_s)
    report(
        f"ended after {ended_s:.1f} s, pauses of {pauses} s, back once sshd answered",
        ended_s,
    )


@pytest.mark.fault(11)
def test_fault_11_connection_reset(lab: Lab, report: Report) -> None:
    with proxied((HOST, lab.sshd.port)) as proxy:
        agent = lab.agent(**settings_for_port(lab, proxy.port))
        agent.start().wait_back()
        before, began_s = generations(agent), time.monotonic()
        assert proxy.reset() == 4, "expected two connections with two sockets each"
        wait_replaced(agent, before)
        took_s = time.monotonic() - began_s
    assert took_s <= within(3)
    assert agent.status()["registration"]["times"] == 1
    report(f"both children reset, back after {took_s:.1f} s", took_s)


@pytest.mark.fault(14)
def test_fault_14_three_hundred_milliseconds_of_latency(lab: Lab, report: Report) -> None:
    """A round trip takes 300 ms more: 150 ms each way."""
    with proxied((HOST, lab.sshd.port), delay_s=0.15) as proxy:
        agent = lab.agent(BETA9_KEEPALIVE_INTERVAL="2", **settings_for_port(lab, proxy.port))
        agent.start().wait_back()
        assert agent.status()["probes"]["forward_s"] >= 0.3
        watch_undisturbed(agent, 30)
        counters = agent.status()["counters"]["keepalives"]
    assert counters["failed"] == 0
    probe_s = agent.status()["probes"]["reverse_s"]
    report(
        f"none in 30 s, {counters['ok']} keepalives accepted, the reverse probe took {probe_s:.1f} s",
        30,
    )


@pytest.mark.fault(17)
def test_fault_17_a_dead_session_still_holds_the_address(lab: Lab, report: Report) -> None:
    agent = lab.ready_agent()
    address, pids = agent.status()["tunnel"]["reverse"]["address"], agent.ssh_pids()
    session_of(lab, agent, "reverse").signal(signal.SIGSTOP)
    took_s = time_replaced(agent, "reverse", lambda: os.kill(pids["reverse"], signal.SIGKILL))
    assert took_s <= within(5)
    assert agent.status()["tunnel"]["reverse"]["address"] != address
    assert agent.ssh_pids()["api"] == pids["api"]
    report(
        f"at the next address after {took_s:.1f} s, same api child",
        took_s,
    )
