"""Fault rows 18 to 24: addresses and ports that are taken, host keys and private keys that are not accepted."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.process.run import run
from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidate
from agent.core.tunnel.key_formats import fingerprint
from agent.demo.sshd.throwaway import HOST
from agent.errors import ExitCode
from tests.integration.agent_process import AgentProcess, command_line
from tests.integration.bounds import at_least
from tests.integration.fault_report import Report
from tests.integration.lab import Lab
from tests.integration.polling import wait_for
from tests.integration.tunnel_watch import generations, reason, wait_replaced

MINUTE_S = 4
"""Stands for the rows' minute in tests that wait for several of them."""
SHORT_MINUTES = {"denied_min_s": MINUTE_S, "denied_max_s": 1.5 * MINUTE_S}


def own_copy(lab: Lab, path: Path, name: str) -> Path:
    """Copy a file, so that later changes by the lab do not reach the agent."""
    copy = lab.directory / name
    copy.touch(0o600)
    copy.write_text(path.read_text())
    return copy


def grant(agent: AgentProcess, *targets: str) -> Grant:
    return Grant(machine_ids=(agent.machine_id,), targets=targets)


def last_line(agent: AgentProcess) -> str:
    """Return the last log line, which says why it exited."""
    return agent.lines[-1]


def attempts(lab: Lab) -> int:
    """Return the number of connections that sshd has logged."""
    return lab.sshd.log().count("Connection from ")


def watch_attempts(lab: Lab, agent: AgentProcess, seconds: float) -> list[float]:
    """Return the times of connections to sshd during `seconds`; the agent must keep running."""
    seen, attempts_at_s = attempts(lab), []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        now = attempts(lab)
        attempts_at_s += [time.monotonic()] * (now - seen)
        seen = now
        assert agent.child is not None
        assert agent.child.code is None, "the agent exited"
        time.sleep(0.05)
    return attempts_at_s


def gaps_s(times_s: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(times_s)]


@pytest.mark.fault(18)
def test_fault_18_another_machine_holds_the_address(lab: Lab, report: Report) -> None:
    agent = lab.agent()
    taken = candidate(agent.machine_id, 0)
    other = lab.agent(BETA9_REVERSE_BIND=taken)
    other.start().wait_back()
    children = other.ssh_pids()
    began_s = time.monotonic()
    agent.start()
    second = candidate(agent.machine_id, 1)
    wait_for(
        "the next address", lambda: agent.is_back() and agent.status()["registration"]["hostname"] == second
    )
    took_s = time.monotonic() - began_s
    status = agent.status()
    assert status["tunnel"]["reverse"]["address"] == second
    assert taken in status["tunnel"]["reverse"]["reason"]
    assert "it is taken" in status["tunnel"]["reverse"]["reason"]
    logged = agent.events("tunnel_reverse_down")[0]
    assert logged["reason"] == "bind"
    assert "it is taken" in logged["text"]
    assert other.ssh_pids() == children
    assert other.is_back()
    report(
        f"ready at the next address after {took_s:.1f} s, reason logged and in /status; the other undisturbed",
        took_s,
    )


@pytest.mark.fault(19)
def test_fault_19_local_port_taken(lab: Lab, report: Report) -> None:
    """Taken by another program, and by another agent's tunnel to the same gateway, which would answer correctly.

    The test uses a free port instead of 1994, which something else on this host may use.
    """
    agent = lab.agent()
    port = agent.environment["BETA9_GATEWAY_PORT"]
    with socket.create_server((HOST, int(port))):
        began_s = time.monotonic()
        agent.start()
        code = agent.wait_exit()
        took_s = time.monotonic() - began_s
    line = last_line(agent)
    assert code == ExitCode.UNUSABLE
    assert took_s >= at_least(15)
    assert f"port {port} is held by" in line
    assert f"(pid {os.getpid()})" in line

    first = lab.ready_agent()
    second = lab.agent(BETA9_GATEWAY_PORT=first.environment["BETA9_GATEWAY_PORT"])
    assert second.start().wait_exit() == ExitCode.UNUSABLE
    assert f"(pid {first.ssh_pids()['api']})" in last_line(second)
    assert not lab.gateway.requests(machine_id=second.machine_id), "it used the other agent's tunnel"
    assert first.is_back()
    report(f"tried for {took_s:.0f} s, exit {code}, each naming the holder", took_s)


@pytest.mark.fault(20)
def test_fault_20_host_key_differs(lab: Lab, report: Report) -> None:
    """Scaled: the slow retry is 4 to 6 s instead of 60 to 300 s."""
    known = own_copy(lab, lab.sshd.known_hosts_path, "pinned")
    agent = lab.agent(SHORT_MINUTES, BETA9_SSH_KNOWN_HOSTS_FILE=str(known))
    agent.start().wait_back()
    lab.sshd.rotate_host_key()
    log_start = len(lab.sshd.log())
    lab.sshd.signal_sessions()
    wait_for("the reason in /status", lambda: "host key differs" in reason(agent))
    attempts_at_s = watch_attempts(lab, agent, 3 * MINUTE_S)
    assert attempts_at_s
    assert all(gap_s >= at_least(MINUTE_S - 0.2) for gap_s in gaps_s(attempts_at_s))

    second = lab.agent(BETA9_SSH_KNOWN_HOSTS_FILE=str(known))
    began_s = time.monotonic()
    code = second.start().wait_exit()
    took_s = time.monotonic() - began_s
    assert code == ExitCode.UNUSABLE
    assert "host key differs from the pinned one: nothing was sent" in last_line(second)
    log = lab.sshd.log()[log_start:]
    assert "Connection from " in log
    assert not re.search(r"Accepted|Failed|Postponed|userauth", log), log

    known.write_text(lab.sshd.known_hosts)
    agent.wait_back()
    report(
        f"no login was tried; exit {code} at first start, {len(attempts_at_s)} attempts in {3 * MINUTE_S} s later, "
        "back once the new key is pinned",
        took_s,
    )


@pytest.mark.fault(21)
def test_fault_21_key_revoked_while_running(lab: Lab, report: Report) -> None:
    """Scaled: a minute is 4 s. An hour of real minutes is in tests/unit/core/tunnel/test_outages.py."""
    agent = lab.agent(SHORT_MINUTES)
    agent.start().wait_back()
    lab.sshd.authorize()
    began_s = time.monotonic()
    lab.sshd.signal_sessions()
    attempts_at_s = watch_attempts(lab, agent, 6 * MINUTE_S)
    assert len(attempts_at_s) >= 3
    assert all(gap_s >= at_least(MINUTE_S - 0.2) for gap_s in gaps_s(attempts_at_s)), gaps_s(attempts_at_s)
    assert "does not accept the key" in reason(agent)
    lab.authorize(agent.machine_id)
    agent.wait_back()
    took_s = time.monotonic() - began_s
    report(
        f"{len(attempts_at_s)} attempts in {6 * MINUTE_S} s, where a minute is {MINUTE_S} s; back once authorized",
        took_s,
    )


@pytest.mark.fault(22)
def test_fault_22_key_rotated_on_disk(lab: Lab, report: Report) -> None:
    key = own_copy(lab, lab.sshd.key_path, "agents_key")
    agent = lab.agent(BETA9_SSH_KEY_FILE=str(key))
    agent.start().wait_back()
    new = lab.sshd.make_key("rotated")
    lab.sshd.authorize(key_line(lab.sshd.public_key(new), grant(agent, lab.target)))
    key.write_text(new.read_text())
    before, log_start, began_s = generations(agent), len(lab.sshd.log()), time.monotonic()
    lab.sshd.signal_sessions()
    wait_replaced(agent, before)
    took_s = time.monotonic() - began_s
    printed = fingerprint(lab.sshd.public_key(new).split()[1]) or "no fingerprint"
    accepted = re.findall(r"Accepted publickey .*", lab.sshd.log()[log_start:])
    assert len(accepted) == 2
    assert all(printed in line for line in accepted)
    assert "Failed publickey" not in lab.sshd.log()[log_start:]
    report(f"both children logged in with the new key after {took_s:.1f} s", took_s)


@pytest.mark.fault(23)
def test_fault_23_key_files_that_people_have(lab: Lab, report: Report) -> None:
    unterminated = own_copy(lab, lab.sshd.key_path, "unterminated")
    unterminated.write_text(unterminated.read_text().rstrip("\n"))
    readable = own_copy(lab, lab.sshd.key_path, "readable")
    readable.chmod(0o644)
    began_s = time.monotonic()
    for path in (unterminated, readable):
        agent = lab.agent(BETA9_SSH_KEY_FILE=str(path))
        agent.start().wait_back()
        assert str(path) not in command_line(agent.ssh_pids()["api"]), "ssh was given the original file"
        assert agent.stop() == 0
    assert readable.stat().st_mode & 0o777 == 0o644, "the user's file was changed"

    encrypted = own_copy(lab, lab.sshd.key_path, "encrypted")
    run(["ssh-keygen", "-q", "-p", "-N", "correct horse", "-f", str(encrypted)], timeout_s=20)
    agent = lab.agent(BETA9_SSH_KEY_FILE=str(encrypted))
    code = agent.start().wait_exit()
    assert code == ExitCode.UNUSABLE
    assert "passphrase" in last_line(agent)
    assert "BETA9_SSH_KEY" in last_line(agent)
    report(
        f"both work, the files are unchanged; encrypted: exit {code} naming the setting and the passphrase",
        time.monotonic() - began_s,
    )


@pytest.mark.fault(24)
def test_fault_24_permitopen_refuses_the_target(lab: Lab, report: Report) -> None:
    """Scaled: the next login, to see whether this was fixed, comes after 20 s instead of a minute."""
    tuning = {"denied_min_s": 20, "backoff_cap_s": 2}
    agent = lab.agent(tuning)
    lab.sshd.authorize(key_line(lab.sshd.public_key(), grant(agent, f"{HOST}:9")))
    began_s = time.monotonic()
    agent.start()
    wait_for("the reason in /status", lambda: "permitopen" in reason(agent))
    noticed_s = time.monotonic() - began_s
    before = agent.ssh_pids()["api"]
    attempts_at_s = watch_attempts(lab, agent, 12)
    assert not attempts_at_s, "ssh was started again"
    assert agent.ssh_pids()["api"] == before
    logged: list[dict[str, Any]] = agent.events("tunnel_api_down")
    assert [each["reason"] for each in logged] == ["permit_open"]
    lab.authorize(agent.machine_id)
    agent.wait_back()
    report(
        f"named after {noticed_s:.1f} s, the same child for another 12 s, back at the login after the fix",
        noticed_s,
    )
