"""Configuration of the throwaway sshd: the options that a gateway's sshd should have, and those of a temporary one.

No I/O. The restrictions are those of bootstrap/gateway/50-beta9-tunnel.conf; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.provisioning.authorized_keys import LISTENS
from agent.core.tunnel.addresses import POOL_PATTERNS

Option = str | Sequence[str] | None
"""A value, several values (one line each), or None to omit the option."""

SESSION_COMMAND = "internal-sftp -R -p realpath"
"""The only command of every session: read-only sftp that answers nothing but realpath. The agent sends no request; it
needs an open channel, because only then does sshd set TCP_NODELAY."""

TUNNEL: Mapping[str, Option] = {
    "AllowTcpForwarding": "yes",
    "GatewayPorts": "clientspecified",
    "PermitListen": " ".join(f"{pattern}:{port}" for pattern in POOL_PATTERNS for port in LISTENS),
    "AllowStreamLocalForwarding": "no",
    "AllowAgentForwarding": "no",
    "X11Forwarding": "no",
    "PermitTunnel": "no",
    "PermitTTY": "no",
    "PermitUserRC": "no",
    "ForceCommand": SESSION_COMMAND,
    "AuthenticationMethods": "publickey",
    "ClientAliveInterval": "3",
    "ClientAliveCountMax": "2",
}
"""The drop-in's Match block for the tunnel-only user, except for what needs root (ChrootDirectory)."""

SERVER: Mapping[str, Option] = {
    "MaxStartups": "100:30:300",
    "Subsystem": "sftp internal-sftp",
    "PubkeyAuthentication": "yes",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PermitUserEnvironment": "no",
    "UsePAM": "no",
    "PidFile": "none",
    "LogLevel": "VERBOSE",
    "LoginGraceTime": "20",
    "UseDNS": "no",
    "PrintMotd": "no",
    "PrintLastLog": "no",
    # When started by root it lets root log in by key; any other account would have to be created on the machine.
    "PermitRootLogin": "prohibit-password",
    # Temporary directories are below the world-writable /tmp, where StrictModes would reject the key file.
    "StrictModes": "no",
}


def defaults(version: tuple[int, int]) -> dict[str, Option]:
    """Return all options for an OpenSSH version, except those that name a file or a port."""
    # Since 9.8 sshd blocks an address after failed logins; here all clients share 127.0.0.1.
    penalties: dict[str, Option] = {"PerSourcePenalties": "no"} if version >= (9, 8) else {}
    return {**SERVER, **TUNNEL, **penalties}


def merged(base: Mapping[str, Option], changes: Mapping[str, Option]) -> dict[str, Option]:
    """Return `base` with `changes`; as in sshd, names are case-insensitive."""
    names = {name.lower(): name for name in base}
    return {**base, **{names.get(name.lower(), name): value for name, value in changes.items()}}


def rendered(options: Mapping[str, Option]) -> str:
    """Return the text of sshd_config."""
    lines = []
    for name, value in options.items():
        values = [value] if isinstance(value, str) else value or []
        lines += [f"{name} {each}\n" for each in values]
    return "".join(lines)
