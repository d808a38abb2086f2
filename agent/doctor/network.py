"""Checks of the way to the gateway's host: name, route, host key, login, and the way out to the internet."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

from agent.core.tunnel import addresses
from agent.core.tunnel.faults import Fault, FaultKind
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.errors import HostKeyError, TransientError

CONNECT_S = 5.0
UNKNOWN = "look at sshd's log on the gateway's host; docs/troubleshooting.md explains the texts"
_NO_TUNNEL = "there is no SSH tunnel to look at"


def _ssh_host(case: Case) -> Finding:
    settings = case.settings
    if not case.is_ssh:
        return skip(f"BETA9_CONNECTION is {settings.connection.value}: {_NO_TUNNEL}")
    if not settings.ssh_host:
        return fail("BETA9_SSH_HOST is not set", "name the host to dial by BETA9_SSH_HOST")
    return ok(f"{settings.ssh_user}@{settings.ssh_host}, port {settings.ssh_port}")


def _dns(case: Case) -> Finding:
    host = str(case.settings.ssh_host)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _resolved(host)
    return ok(f"{host} is an address")


def _resolved(host: str) -> Finding:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        return fail(
            f"'{host}' cannot be resolved: {error.strerror or error}",
            "check BETA9_SSH_HOST, and /etc/resolv.conf of this machine",
        )
    return ok(f"{host} is {', '.join(sorted(found))}")


def _route(case: Case) -> Finding:
    """Connect, and see whether an SSH server greets."""
    where = (str(case.settings.ssh_host), case.settings.ssh_port)
    spelled = f"{where[0]} port {where[1]}"
    try:
        with socket.create_connection(where, CONNECT_S) as connection:
            connection.settimeout(CONNECT_S - 1)
            # RFC 4253, 4.2: the server may send other lines first, but must send its version.
            greeting = connection.recv(255)
    except TimeoutError:
        return fail(
            f"{spelled}: no answer within {CONNECT_S:g} s",
            "a firewall on the way, or a host that is down: check BETA9_SSH_HOST, BETA9_SSH_PORT, and that this "
            "machine may go out to that port",
        )
    except OSError as error:
        return fail(
            f"{spelled}: {error.strerror or error}",
            "check BETA9_SSH_HOST and BETA9_SSH_PORT, and that sshd runs on the gateway's host",
        )
    line = greeting.partition(b"\n")[0].decode("ascii", errors="replace").strip()
    if not line.startswith("SSH-"):
        said = "it ends the connection" if not line else "it does not speak SSH"
        return fail(
            f"{spelled}: {said}", "check BETA9_SSH_PORT; sshd ends connections above its MaxStartups, too"
        )
    shown = "".join(character if character.isprintable() else " " for character in line)[:80]
    return ok(f"{spelled} greets as {shown}")


def _host_key(case: Case) -> Finding:
    """Also logs in, in the same breath: whatever comes after the host key is the next check's."""
    fix = (
        "on the gateway's host, by its console: 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub'; give what it "
        "prints by BETA9_SSH_HOST_KEY_FINGERPRINT, or its line by BETA9_SSH_KNOWN_HOSTS"
    )
    try:
        endpoint = case.credentials.endpoint()
    except HostKeyError as error:
        return fail(str(error), fix)
    except TransientError as error:
        return fail(str(error), "check the way to the SSH host")
    link = case.tunnel.connect(endpoint, reverse_address(case))
    if link.ended is not None and link.ended.kind is FaultKind.HOST_KEY:
        return fail(link.ended.message, fix)
    if link.ended is not None and link.ended.kind in {FaultKind.NO_SSH, FaultKind.LOCAL_PORT}:
        return fail(*_told(link.ended))
    return ok("the server shows the key that is pinned", found=link)


def _login(case: Case) -> Finding:
    link = case.found("host key")
    if link.ended is not None:
        return fail(*_told(link.ended))
    if not link.logged_in:
        return fail(
            "sshd did not let us in, and did not refuse either",
            "look at sshd's log on the gateway's host: an overloaded host, or DNS look-ups that hang (UseDNS no)",
        )
    return ok(f"let in as {case.settings.ssh_user}", found=link)


def _session(case: Case) -> Finding:
    if case.found("login").session:
        return ok("sshd opens one, so small writes go out at once")
    return warn(
        "sshd refuses a session channel: small writes through the tunnel wait some 40 ms each",
        "'Subsystem sftp internal-sftp' and 'MaxSessions' above 0 in the gateway's sshd_config",
    )


def _told(trouble: Fault) -> tuple[str, str]:
    """What ssh said, and what to do: the last bracket of the text (see core/tunnel/ssh_stderr.py)."""
    text = trouble.message
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[place], 0)
        if depth == 0:
            break
    said = text[:place].rstrip()
    return (said, text[place + 1 : -1]) if text.endswith(")") and said else (text, UNKNOWN)


def _outbound(case: Case) -> Finding:
    host, _, port = case.outbound.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError) as error:
        fix = "worker pods, images and the bootstrap need the way out to port 443; open it in the firewall"
        if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
            return warn(
                f"{case.outbound}: {error}", f"HTTPS_PROXY is set, which worker pods do not use; {fix}"
            )
        return fail(f"{case.outbound}: {error}", fix)
    return ok(f"{case.outbound} answers")


def reverse_address(case: Case) -> str | None:
    """The address that the doctor may try: the machine's last candidate, which an agent takes last, too."""
    if case.settings.reverse_bind != "auto":
        return case.settings.reverse_bind
    machine_id: Any = case.machine_id()
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
