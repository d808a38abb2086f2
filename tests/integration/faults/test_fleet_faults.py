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
from tests.integration.bounds import within
from tests.integration.lab import AgentProcess, Lab, wait_for
from tests.integration.told import Tell

AGENTS = 50
DOWN_S = 8
START_DEADLINE_S = 240


@contextmanager
def hung_up_on(port: int) -> Iterator[list[float]]:
    """In sshd's place, end every connection at once; the moments at which they came."""
    moments: list[float] = []
    listener = socket.create_server((HOST, port), backlog=512)

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:  # shut down
                return
            moments.append(time.monotonic())
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield moments
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def busiest(moments: list[float], window_s: float) -> int:
    """The most moments that lie in any window of that length."""
    return max(sum(start <= each < start + window_s for each in moments) for start in moments)


def wait_all_back(agents: list[AgentProcess], deadline_s: float) -> list[float]:
    """Seconds until each was back, in their order."""
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
def test_fault_26_sshd_and_gateway_restarted_under_fifty_agents(lab: Lab, tell: Tell) -> None:
    """Fifty real agents with a hundred ssh children. How well they spread is judged by the pauses that they chose:
    when their attempts arrive depends on this host's processors, too, and is only told. The same for fifty
    simulated ones is in tests/unit/core/tunnel/test_outages.py."""
    agents = [lab.agent() for _ in range(AGENTS)]
    lab.sshd.authorize(key_line(lab.sshd.public_key(), Grant(targets=(lab.target,))))
    for agent in agents:
        agent.start()
    wait_all_back(agents, START_DEADLINE_S)
    registered = [agent.status()["registration"]["times"] for agent in agents]

    port = lab.sshd.port
    told_before = [len(agent.events("tunnel_api_down")) for agent in agents]
    lab.sshd.stop()
    lab.gateway.stop_api()
    with hung_up_on(port) as moments:
        wait_for("all are cut off", lambda: not any(agent.status()["tunnel"]["up"] for agent in agents))
        time.sleep(DOWN_S)  # the outage itself
    lab.gateway.start_api()
    lab.sshd.start()
    took_s = wait_all_back(agents, START_DEADLINE_S)

    assert max(took_s) <= within(60)
    # A host that is short of processors withdraws an offer for a moment; the row does not forbid that.
    again = sum(agent.status()["registration"]["times"] for agent in agents) - sum(registered)
    assert len(moments) >= AGENTS, "every agent tried"
    troubles = [
        agent.events("tunnel_api_down")[told] for agent, told in zip(agents, told_before, strict=True)
    ]
    pauses_s = [float(trouble["retry_in_s"]) for trouble in troubles]
    crowd = busiest(pauses_s, 0.15)
    assert crowd <= AGENTS * 0.4
    tell(
        f"{AGENTS} agents back {min(took_s):.1f} to {max(took_s):.1f} s after the restart; {len(moments)} attempts "
        f"meanwhile, at most {busiest(moments, 0.25)} in a quarter of a second; {again} registrations",
        max(took_s),
    )
