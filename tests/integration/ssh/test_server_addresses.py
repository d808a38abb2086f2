"""A server's name with several addresses, of which the first ones do not serve: ssh goes on to the next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import ROOT
from tests.integration.commands.push_secrets.pushing import ORDINARY, TOKEN
from tests.integration.lab import SSH_PORT, AgentProcess, Lab, laboratory
from tests.integration.netns import FAR_ADDRESS, WIRE, Wire, known_names, wire
from tests.integration.polling import wait_for
from tests.integration.tunnel_watch import reason
from tests.sshd import Sshd

NAME = "gw.test"
FIRST = tuple(f"fd00:231::{n}" for n in (1, 2, 3))
"""Addresses of the gateway's host on which no sshd listens. They come first, as IPv6 does."""


@contextmanager
def net_of(addresses: int, *, silent: bool) -> Iterator[Wire]:
    """Join two hosts by IPv4 and IPv6; NAME has some of FIRST, then the address where sshd listens."""
    with ExitStack() as stack:
        net = stack.enter_context(wire())
        for place, own in ((net.near, ("fd00:231::9",)), (net.far, FIRST)):
            for address in own:
                place.run("ip", "addr", "add", f"{address}/64", "dev", WIRE, "nodad")
        if silent:
            net.far.run("ip6tables", "-A", "INPUT", "-p", "tcp", "--dport", str(SSH_PORT), "-j", "DROP")
        stack.enter_context(known_names(net.near, NAME, *FIRST[:addresses], FAR_ADDRESS))
        yield net


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Lab]:
    with net_of(1, silent=False) as net, laboratory(tmp_path, near=net.near, far=net.far) as lab:
        yield lab


def agent_of(lab: Lab) -> AgentProcess:
    """Create an agent that knows the host by its name, and its key by the fingerprint."""
    pin = lab.sshd.fingerprint
    return lab.agent(BETA9_SSH_HOST=NAME, BETA9_SSH_HOST_KEY_FINGERPRINT=pin, BETA9_SSH_KNOWN_HOSTS_FILE="")


def test_an_address_that_refuses_is_passed_over(refusing: Lab) -> None:
    """Field case 3.1."""
    agent = agent_of(refusing).start()
    agent.wait_back()
    log = refusing.sshd.log()
    assert log.count("Connection from") == log.count("Accepted publickey") == 2


@pytest.mark.parametrize("silent", [1, 3])
def test_addresses_that_are_silent_are_passed_over(tmp_path: Path, silent: int) -> None:
    """Field case 3.2. With three of them ssh is at the fourth only when the agent's own limit for a login ends."""
    with net_of(silent, silent=True) as net, laboratory(tmp_path, near=net.near, far=net.far) as lab:
        agent = agent_of(lab).start()
        agent.wait_back()
        assert (agent.status()["tunnel"]["restarts"] == 0) == (silent == 1)


def test_when_no_address_serves_the_reason_is_ssh_s_own(refusing: Lab) -> None:
    """Field case 3.1: the reason is not that of a connect of ours to another address."""
    refusing.sshd.stop()
    agent = agent_of(refusing).start()
    expected = f"ssh: ssh: connect to host {NAME} port {SSH_PORT}: Connection refused ("
    wait_for("ssh's own reason", lambda: reason(agent).startswith(expected))


@pytest.mark.parametrize("silent", [False, True])
def test_secrets_are_pushed_to_an_address_that_serves(tmp_path: Path, silent: bool) -> None:
    """Field case 3.3."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with net_of(1, silent=silent) as net:
        there = Sshd(
            tmp_path / "sshd", options=ORDINARY, host=FAR_ADDRESS, port=SSH_PORT, prefix=net.far.prefix
        )
        with there as machine:
            machine.authorize(machine.public_key())
            argv = [*net.near.prefix, sys.executable, "-m", "agent", "push-secrets", f"{machine.user}@{NAME}"]
            where = ["--port", str(SSH_PORT), "--directory", str(tmp_path / "s"), "--wait", "30"]
            who = ["--identity", str(machine.key_path), "--fingerprint", machine.fingerprint]
            done = subprocess.run(
                [*argv, *where, *who, "--token-file", str(token)],
                capture_output=True,
                text=True,
                check=False,
                timeout=180,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("BETA9_")},
            )
            assert (done.returncode, done.stderr) == (0, "")
            log = machine.log()
    assert (tmp_path / "s" / "token").read_text() == TOKEN
    assert log.count("Connection from") == log.count("Accepted publickey") == 1
