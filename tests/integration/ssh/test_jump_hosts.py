"""The gateway's host behind jump hosts: field case 14.2, with a real sshd for each.

The gateway's sshd, and a second jump host, listen on the far side's loopback addresses, which cannot be reached from
the machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from agent.core.tunnel.key_formats import fingerprint
from tests import ROOT
from tests.integration.agent_process import AgentProcess
from tests.integration.lab import SSH_PORT, Lab, laboratory
from tests.integration.netns import FAR_ADDRESS, Place, wire
from tests.integration.polling import wait_for
from tests.integration.tunnel_watch import reason
from tests.sshd import Sshd

OUTER_PORT, INNER_PORT = 2223, 2224


@dataclass
class Site:
    """A laboratory, and the two jump hosts in front of its gateway; `outer` is the one that can be reached."""

    lab: Lab
    outer: Sshd
    inner: Sshd

    def jump(self, *servers: Sshd) -> str:
        return ",".join(f"{server.user}@{server.host}:{server.port}" for server in servers)

    def let_through(self, server: Sshd, target: Sshd) -> None:
        """Let the lab's key go on from one server to the next, and nowhere else."""
        key = self.lab.sshd.public_key()
        server.authorize(f'restrict,port-forwarding,permitopen="{target.host}:{target.port}" {key}')

    def agent(self, *jumps: Sshd, **settings: str) -> AgentProcess:
        return self.lab.agent(None, BETA9_SSH_JUMP=self.jump(*jumps), **settings)

    def pins(self, *servers: Sshd) -> dict[str, str]:
        lines = [line for server in servers for line in server.known_hosts.splitlines()]
        found = ",".join(fingerprint(line.split()[2]) or "" for line in lines)
        return {"BETA9_SSH_HOST_KEY_FINGERPRINT": found, "BETA9_SSH_KNOWN_HOSTS_FILE": ""}

    def lines(self, *servers: Sshd) -> dict[str, str]:
        text = "".join(server.known_hosts for server in servers)
        return {"BETA9_SSH_KNOWN_HOSTS": text, "BETA9_SSH_KNOWN_HOSTS_FILE": ""}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        net = stack.enter_context(wire())
        far = Place(net.far.name, "127.0.0.1")
        lab = stack.enter_context(laboratory(tmp_path, near=net.near, far=far))
        options = {"PermitListen": "none"}
        outer, inner = (
            stack.enter_context(
                Sshd(tmp_path / name, options=options, host=host, port=port, prefix=far.prefix)
            )
            for name, host, port in (
                ("outer", FAR_ADDRESS, OUTER_PORT),
                ("inner", "127.0.0.2", INNER_PORT),
            )
        )
        made = Site(lab, outer, inner)
        made.let_through(outer, lab.sshd)
        yield made


def logins(server: Sshd) -> tuple[int, int]:
    log = server.log()
    return log.count("Connection from"), log.count("Accepted publickey")


@pytest.mark.parametrize("pinned_by", ["lines", "pins"])
def test_a_machine_works_through_a_jump_host(site: Site, pinned_by: str) -> None:
    gateway = site.lab.sshd
    pins = getattr(site, pinned_by)(site.outer, gateway)
    agent = site.agent(site.outer, **pins).start()
    agent.wait_back()
    assert logins(site.outer) == logins(gateway) == (2, 2)
    assert "PTY" not in site.outer.log()
    os.kill(agent.ssh_pids()["api"], signal.SIGKILL)
    wait_for("the next login", lambda: logins(gateway)[1] == 3)
    agent.wait_back()
    assert agent.stop() == 0


def test_a_machine_works_through_two_whose_pinned_keys_are_of_other_types(site: Site) -> None:
    for server in (site.outer, site.inner):
        server.add_host_key("rsa")
    site.let_through(site.outer, site.inner)
    site.let_through(site.inner, site.lab.sshd)
    pins = site.pins(site.outer, site.inner, site.lab.sshd)
    ed25519 = {fingerprint(server.known_hosts.split()[2]) for server in (site.outer, site.inner)}
    known = pins["BETA9_SSH_HOST_KEY_FINGERPRINT"].split(",")
    pins["BETA9_SSH_HOST_KEY_FINGERPRINT"] = ",".join(pin for pin in known if pin not in ed25519)
    agent = site.agent(site.outer, site.inner, **pins).start()
    agent.wait_back()
    assert agent.stop() == 0


def test_every_process_on_the_way_ends_with_the_agent(site: Site) -> None:
    # Neither notices by itself that its peer has stopped.
    pins = site.lines(site.outer, site.lab.sshd)
    agent = site.agent(site.outer, BETA9_TUNING="ssh_alive_interval_s=600", **pins).start()
    agent.wait_back()
    below = psutil.Process(agent.pid).children(recursive=True)
    assert len([each for each in below if each.name() == "ssh"]) == 4
    site.outer.signal_sessions(signal.SIGSTOP)
    agent.signal(signal.SIGKILL)
    wait_for("every process to end", lambda: not any(_runs(each) for each in below))
    site.outer.signal_sessions(signal.SIGCONT)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


FAULTS = {
    "down": "nothing listens there; check BETA9_SSH_JUMP",
    "key refused": "a jump host does not accept the key",
    "host key unknown": "a jump host's key is not the pinned one",
    "another host key": f"BETA9_SSH_HOST_KEY_FINGERPRINT: [{FAR_ADDRESS}]:{OUTER_PORT} showed",
    "not let on": "a jump host does not let this key go on",
    "gateway's sshd down": "a jump host cannot reach the next one; check BETA9_SSH_HOST",
    "gateway's host key unknown": "the gateway's host key is not among the pinned ones",
    "gateway refuses the key": "the gateway's sshd does not accept the key",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_on_the_way_is_named(site: Site, fault: str) -> None:
    gateway, other = site.lab.sshd, site.inner
    pins = site.lines(site.outer, gateway)
    if fault == "host key unknown":
        pins = site.lines(gateway)
    elif fault == "another host key":
        pins = site.pins(other, gateway)
    elif fault == "gateway's host key unknown":
        pins = site.lines(site.outer)
    agent = site.agent(site.outer, **pins)
    if fault == "down":
        site.outer.stop()
    elif fault == "key refused":
        site.outer.authorize()
    elif fault == "not let on":
        site.let_through(site.outer, other)
    elif fault == "gateway's sshd down":
        gateway.stop()
    elif fault == "gateway refuses the key":
        gateway.authorize()
    agent.start()
    ends = {"key refused": 77, "gateway refuses the key": 77, "host key unknown": 78, "another host key": 78}
    ends["gateway's host key unknown"] = 78
    if fault in ends:
        assert agent.wait_exit() == ends[fault]
        assert FAULTS[fault] in " ".join(agent.lines)
    else:
        wait_for("the reason", lambda: FAULTS[fault] in reason(agent))


def test_the_doctor_checks_the_way_through_the_jump_host(site: Site) -> None:
    agent = site.agent(site.outer, **site.lines(site.outer, site.lab.sshd))
    argv = [*agent.place.prefix, sys.executable, "-m", "agent", "doctor", "--json", "--env-file", os.devnull]
    environment = {**agent.environment, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT, env=environment
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    names = ("ssh host", "dns", "route to the ssh host", "host key", "login", "forward", "gateway health")
    assert {name: checks[name]["verdict"] for name in names} == dict.fromkeys(names, "ok"), checks
    assert f"through {site.jump(site.outer)}" in checks["ssh host"]["seen"]
    assert checks["route to the ssh host"]["seen"].startswith(f"{FAR_ADDRESS} port {OUTER_PORT} is SSH-2.0-")


def test_a_forward_of_one_s_own_leads_there_as_well(site: Site, tmp_path: Path) -> None:
    """As docs/ssh-tunnel.md has it, for a way that ssh's jump hosts do not cover."""
    gateway, port = site.lab.sshd, SSH_PORT + 100
    known = tmp_path / "known"
    known.write_text(site.outer.known_hosts)
    forward = [
        *site.lab.near.prefix,
        "ssh",
        "-F",
        "none",
        "-N",
        "-p",
        str(OUTER_PORT),
        "-i",
        str(gateway.key_path),
    ]
    forward += ["-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
    forward += ["-L", f"127.0.0.1:{port}:{gateway.host}:{gateway.port}", f"{gateway.user}@{FAR_ADDRESS}"]
    own = subprocess.Popen(forward, stdin=subprocess.DEVNULL)
    try:
        pins = site.pins(gateway)
        agent = site.lab.agent(None, BETA9_SSH_HOST="127.0.0.1", BETA9_SSH_PORT=str(port), **pins).start()
        agent.wait_back()
        assert agent.stop() == 0
    finally:
        own.terminate()
        own.wait()
