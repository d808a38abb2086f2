"""Fault rows 38 to 41: SIGTERM, SIGKILL and SIGSTOP sent to the agent."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.sshd.program import free_port
from agent.demo.sshd.throwaway import HOST
from tests.integration.agent_process import AgentProcess, is_running
from tests.integration.bounds import STOP_S, within
from tests.integration.fault_report import Report
from tests.integration.lab import Lab, laboratory
from tests.integration.polling import wait_for


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Run a TCP server that accepts and never sends anything: ssh waits for its banner."""
    with socket.create_server((HOST, 0), backlog=16) as server:
        yield int(server.getsockname()[1])


class StopWatch:
    """Stops agents and keeps the seconds each one took, by situation."""

    def __init__(self) -> None:
        self.took_s: dict[str, float] = {}

    def stop(self, situation: str, agent: AgentProcess) -> None:
        """Send SIGTERM; the agent must exit 0."""
        began_s = time.monotonic()
        assert agent.stop(grace_s=30) == 0, f"{situation}: {agent.lines[-5:]}"
        self.took_s[situation] = time.monotonic() - began_s


@pytest.mark.fault(38)
@pytest.mark.timeout(240)
def test_fault_38_sigterm_in_every_state(lab: Lab, report: Report) -> None:
    """STOPPED and FAILED end by themselves; DRAINING is row 39."""
    watch = StopWatch()
    stop_before_registration(lab, watch)
    stop_after_registration(lab, watch)
    took_s = watch.took_s
    slowest = max(took_s, key=lambda situation: took_s[situation])
    assert took_s[slowest] < within(STOP_S), took_s
    report(
        f"exit 0 in {len(took_s)} situations; slowest {slowest}: {took_s[slowest]:.1f} s",
        took_s[slowest],
    )


def stop_before_registration(lab: Lab, watch: StopWatch) -> None:
    closed_port = str(free_port(HOST))

    agent = lab.agent().start()
    wait_for("the first log line", lambda: agent.events("starting"))
    watch.stop("STARTING", agent)

    agent = lab.agent(BETA9_K3S="required", BETA9_K3S_API=f"{HOST}:{closed_port}").start()
    agent.wait_for_state("PREPARING")
    watch.stop("PREPARING", agent)

    with silent_server() as port:
        tuning = {"ssh_connect_timeout_s": 60, "start_timeout_s": 60}
        agent = lab.agent(tuning, BETA9_SSH_PORT=str(port)).start()
        agent.wait_for_state("CONNECTING")
        watch.stop("CONNECTING", agent)

    agent = lab.agent({"backoff_base_s": 60, "outage_cap_s": 60}, BETA9_SSH_PORT=closed_port).start()
    agent.wait_for_state("BACKOFF")
    watch.stop("BACKOFF", agent)

    number = lab.gateway.set_fault("hang", route="register")
    agent = lab.agent().start()
    wait_for("a register call hangs", lambda: lab.gateway.requests("register", agent.machine_id))
    assert agent.status()["state"] == "REGISTERING"
    watch.stop("REGISTERING", agent)
    lab.gateway.clear_faults(number)


def stop_after_registration(lab: Lab, watch: StopWatch) -> None:
    agent = lab.ready_agent()
    watch.stop("READY", agent)
    assert lab.gateway.status(agent.machine_id) == "registered"

    agent = lab.ready_agent()
    lab.gateway.set_fault("hang")
    watch.stop("READY, the gateway hangs", agent)
    lab.gateway.clear_faults()

    agent = lab.ready_agent()
    lab.gateway.set_fault("database_down")
    watch.stop("READY, the gateway refuses", agent)
    lab.gateway.clear_faults()

    agent = lab.ready_agent()
    lab.sshd.stop()
    agent.wait_for_state("CONNECTING", "BACKOFF")
    watch.stop("BACKOFF, registered", agent)


@pytest.mark.fault(39)
def test_fault_39_second_sigterm(lab: Lab, report: Report) -> None:
    """Scaled up: the farewell may take 60 s (3 s), so that only the second signal can have ended it."""
    agent = lab.ready_agent({"farewell_s": 60})
    lab.gateway.set_fault("hang")
    agent.signal(signal.SIGTERM)
    agent.wait_for_state("DRAINING")
    began_s = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    took_s = time.monotonic() - began_s
    assert took_s < within(5)
    report(f"exit 0 after {took_s:.1f} s", took_s)


@pytest.mark.fault(40)
def test_fault_40_killed(lab: Lab, report: Report) -> None:
    agent = lab.agent(BETA9_MACHINE_ID="")
    agent.start()
    own_id = wait_for("a generated machine id", lambda: agent.status().get("machine_id"))
    lab.authorize(own_id)
    agent.wait_back()
    children = agent.ssh_pids()
    began_s = time.monotonic()
    agent.signal(signal.SIGKILL)
    agent.wait_exit()
    wait_for(
        "all ssh children have exited", lambda: not [pid for pid in children.values() if is_running(pid)]
    )
    exited_s = time.monotonic() - began_s
    agent.start()
    agent.wait_back()
    assert agent.status()["machine_id"] == own_id
    assert [machine["machine_id"] for machine in lab.gateway.machines() if machine["status"] == "ready"] == [
        own_id
    ]
    report(
        f"{len(children)} ssh children exited within {exited_s:.1f} s; ready again with the same id",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(41)
def test_fault_41_stopped_longer_than_the_lease(tmp_path: Path, report: Report) -> None:
    """Scaled: a lease of 8 s (300 s); the agent is stopped until the gateway has dropped the machine (10 min)."""
    tuning = {"ttl_s": 8, "keepalive_timeout_s": 1, "call_retry_cap_s": 1}
    with laboratory(tmp_path, gateway_options=("--ttl", "8")) as lab:
        agent = lab.ready_agent(tuning, BETA9_KEEPALIVE_INTERVAL="2")
        times = agent.status()["registration"]["times"]
        agent.signal(signal.SIGSTOP)
        wait_for("the entry expires", lambda: lab.gateway.machine(agent.machine_id) is None)
        began_s = time.monotonic()
        agent.signal(signal.SIGCONT)
        wait_for("ready again", lambda: lab.gateway.status(agent.machine_id) == "ready")
        took_s = time.monotonic() - began_s
        agent.wait_back()
        assert agent.status()["registration"]["times"] - times == 1
        states = [each.get("state") for each in agent.events("state")][-2:]
        assert states == ["REGISTERING", "READY"]
    report(
        f"ready {took_s * 1000:.0f} ms after SIGCONT, one registration",
        took_s,
    )
