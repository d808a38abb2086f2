"""Checks of the connection to the SSH host (name, route, host key, login), and of internet access."""

from __future__ import annotations

import ipaddress
import os
import socket
import time

from agent.adapters.bounded_http import connect
from agent.core.tunnel import addresses
from agent.core.tunnel.faults import Fault, FaultKind
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.doctor.own_tunnel import Connected
from agent.errors import TransientError

CONNECT_S = 5.0
UNKNOWN = "see sshd's log on the SSH host; docs/troubleshooting.md explains the messages"
_NO_TUNNEL = "there is no SSH tunnel to check"


def _ssh_host(case: Case) -> Finding:
    settings = case.settings
    if not case.is_ssh:
        return skip(f"BETA9_CONNECTION is {settings.connection.value}: {_NO_TUNNEL}")
    if not settings.ssh_host:
        return fail("BETA9_SSH_HOST is not set", "set BETA9_SSH_HOST to the host to dial")
    through = f", through {', '.join(str(jump) for jump in settings.ssh_jump)}" if settings.ssh_jump else ""
    return ok(f"{settings.ssh_user}@{settings.ssh_host}, port {settings.ssh_port}{through}")


def _first_hop(case: Case) -> tuple[str, int, str]:
    """Return host and port that ssh dials from here, and the settings that name them."""
    settings = case.settings
    if settings.ssh_jump:
        return settings.ssh_jump[0].host, settings.ssh_jump[0].port, "BETA9_SSH_JUMP"
    return str(settings.ssh_host), settings.ssh_port, "BETA9_SSH_HOST and BETA9_SSH_PORT"


def _dns(case: Case) -> Finding:
    host, _, names = _first_hop(case)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _resolved(host, names)
    return ok(f"{host} is an IP address")


def _resolved(host: str, names: str) -> Finding:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        return fail(
            f"'{host}' cannot be resolved: {error.strerror or error}",
            f"check {names}, and /etc/resolv.conf on this machine",
        )
    return ok(f"{host} is {', '.join(sorted(found))}")


def _route(case: Case) -> Finding:
    """Connect, and check that an SSH server answers."""
    host, port, names = _first_hop(case)
    label = f"{host} port {port}"
    try:
        with connect(host, port, time.monotonic() + CONNECT_S) as connection:
            connection.settimeout(CONNECT_S - 1)
            # RFC 4253, 4.2: the server may send other lines first, but must send its version.
            greeting = connection.recv(255)
    except TimeoutError:
        return fail(
            f"{label}: no answer within {CONNECT_S:g} s",
            f"a firewall blocks it, or the host is down: check {names}, and allow this machine to connect to that port",
        )
    except OSError as error:
        return fail(
            f"{label}: {error.strerror or error}",
            f"check {names}, and that sshd is running on that host",
        )
    line = greeting.partition(b"\n")[0].decode("ascii", errors="replace").strip()
    if not line.startswith("SSH-"):
        reason = "closes the connection" if not line else "is not an SSH server"
        return fail(
            f"{label} {reason}", f"check {names}; sshd also closes connections beyond its MaxStartups"
        )
    shown = "".join(character if character.isprintable() else " " for character in line)[:80]
    return ok(f"{label} is {shown}")


def _host_key(case: Case) -> Finding:
    """Check the host key. ssh logs in with the same command: the next check reports how that went."""
    fix = (
        "run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on the SSH host's console; set "
        "BETA9_SSH_HOST_KEY_FINGERPRINT to what it prints, or put the host's line into BETA9_SSH_KNOWN_HOSTS"
    )
    try:
        endpoint = case.credentials.endpoint()
    except TransientError as error:
        return fail(str(error), "check the connection to the SSH host")
    link = case.tunnel.connect(endpoint, reverse_address(case))
    if link.ended is not None and link.ended.kind is FaultKind.HOST_KEY:
        return fail(link.ended.message, fix)
    if link.ended is not None and link.ended.kind in {FaultKind.NO_SSH, FaultKind.LOCAL_PORT}:
        return fail(*_split_advice(link.ended))
    return ok("the server has the pinned key", found=link)


def _login(case: Case) -> Finding:
    link = case.need("host key", Connected)
    if link.ended is not None:
        return fail(*_split_advice(link.ended))
    if not link.logged_in:
        return fail(
            "sshd neither accepted nor refused the login",
            "see sshd's log on the SSH host: it may be overloaded, or hang in DNS lookups (set 'UseDNS no')",
        )
    return ok(f"logged in as {case.settings.ssh_user}", found=link)


def _session(case: Case) -> Finding:
    if case.need("login", Connected).session:
        return ok("sshd opens one, so small writes are sent without delay")
    return warn(
        "sshd refuses a session channel, which delays each small write through the tunnel by about 40 ms",
        "set 'Subsystem sftp internal-sftp' and 'MaxSessions' above 0 in sshd_config on the SSH host",
    )


def _split_advice(fault: Fault) -> tuple[str, str]:
    """Split a fault into ssh's message and the advice in parentheses at its end (see core/tunnel/ssh_stderr.py)."""
    text = fault.message
    depth = 0
    for start in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[start], 0)
        if depth == 0:
            break
    message = text[:start].rstrip()
    return (message, text[start + 1 : -1]) if text.endswith(")") and message else (text, UNKNOWN)


def _outbound(case: Case) -> Finding:
    host, _, port = case.outbound.rpartition(":")
    try:
        connect(host, int(port), time.monotonic() + CONNECT_S).close()
    except (OSError, ValueError) as error:
        fix = "allow outgoing connections to port 443: worker pods, images and the bootstrap need them"
        if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
            return warn(
                f"{case.outbound}: {error}", f"{fix}; HTTPS_PROXY is set, but worker pods do not use it"
            )
        return fail(f"{case.outbound}: {error}", fix)
    return ok(f"{case.outbound} answers")


def reverse_address(case: Case) -> str | None:
    """Return the address that the doctor may use: the machine's last candidate, which an agent also tries last."""
    if case.settings.reverse_bind != "auto":
        return case.settings.reverse_bind
    machine_id = case.machine_id()
    return addresses.candidate(machine_id, addresses.COUNT - 1) if machine_id else None


CHECKS = (
    Check("outbound 443", _outbound),
    Check("ssh host", _ssh_host),
    Check("dns", _dns, ("ssh host",)),
    Check("route to the ssh host", _route, ("dns",)),
    Check("host key", _host_key, ("route to the ssh host", "ssh key", "ssh client")),
    Check("login", _login, ("host key",)),
    Check("ssh session channel", _session, ("login",)),
)
