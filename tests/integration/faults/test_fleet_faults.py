"""Fault row 26: sshd and gateway are restarted under a whole fleet."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.throwaway import HOST
from tests.integration.agent_process import AgentProcess
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.lab import Lab
from tests.integration.polling import wait_for

AGENTS = 50
DOWN_S = 8
START_DEADLINE_S = 240


@contextmanager
def hanging_up(port: int) -> Iterator[list[float]]:
    """Listen in place of sshd and hang up at once. Yields the times at which connections came."""
    times_s: list[float] = []
    listener = socket.create_server((HOST, port), backlog=512)

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:  # shut down
                return
            times_s.append(time.monotonic())
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield times_s
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def busiest(times_s: list[float], window_s: float) -> int:
    """Return the largest number of times that lie within any window of `window_s`."""
    return max(sum(start <= each < start + window_s for each in times_s) for start in times_s)


def wait_all_back(agents: list[AgentProcess], deadline_s: float) -> list[float]:
    """Wait until all are back; return the seconds that each took, in their order."""
    began_s = time.monotonic()
    took_s: dict[int, float] = {}

    def all_back() -> bool:
        for number, agent in enumerate(agents):
            if number not in took_s and agent.is_back():
                took_s[number] = time.monotonic() - began_s
        return len(took_s) == len(agents)

    wait_for("all are back", all_back, deadline_s)
    return [took_s[number] for number in range(len(agents))]


@pytest.mark.fault(26)
@pytest.mark.timeout(500)
def test_fault_26_sshd_and_gateway_restarted_under_fifty_agents(lab: Lab, report: Report) -> None:
    """Fifty real agents with a hundred ssh children.

    The spread is asserted on the pauses that they chose, since the arrival times also depend on this host's CPUs and
    are only reported. tests/unit/core/tunnel/test_outages.py does the same with fifty simulated agents.
    """
    agents = [lab.agent() for _ in range(AGENTS)]
    lab.sshd.authorize(key_line(lab.sshd.public_key(), Grant(targets=(lab.target,))))
    for agent in agents:
        agent.start()
    wait_all_back(agents, START_DEADLINE_S)
    registered = [agent.status()["registration"]["times"] for agent in agents]

    port = lab.sshd.port
    logged_before = [len(agent.events("tunnel_api_down")) for agent in agents]
    lab.sshd.stop()
    lab.gateway.stop_api()
    with hanging_up(port) as attempts_at_s:
        wait_for("all are cut off", lambda: not any(agent.status()["tunnel"]["up"] for agent in agents))
        time.sleep(DOWN_S)  # the outage itself
    lab.gateway.start_api()
    lab.sshd.start()
    took_s = wait_all_back(agents, START_DEADLINE_S)

    assert max(took_s) <= within(60)
    # On a host short of CPU an agent may briefly withdraw its offer and register again, which the row allows.
    registered_again = sum(agent.status()["registration"]["times"] for agent in agents) - sum(registered)
    assert len(attempts_at_s) >= AGENTS, "not every agent tried"
    outages = [
        agent.events("tunnel_api_down")[count] for agent, count in zip(agents, logged_before, strict=True)
    ]
    pauses_s = [float(outage["retry_in_s"]) for outage in outages]
    assert busiest(pauses_s, 0.15) <= AGENTS * 0.4
    report(
        f"{AGENTS} back {min(took_s):.1f} to {max(took_s):.1f} s after the restart; {len(attempts_at_s)} attempts, "
        f"at most {busiest(attempts_at_s, 0.25)} in 0.25 s; {registered_again} registrations",
        max(took_s),
    )
