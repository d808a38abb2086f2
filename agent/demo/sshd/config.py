"""What the throw-away sshd is told: the options that a gateway's sshd should have, and those of a temporary place.

Pure. The restrictions are the ones of bootstrap/gateway/50-beta9-tunnel.conf; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.provisioning.authorized_keys import K3S_PORT
from agent.core.tunnel.addresses import POOL_PATTERNS

Option = str | Sequence[str] | None
"""A value, several lines of the same option, or None to leave the option out."""

SESSION_COMMAND = "internal-sftp -R -p realpath"
"""Every session ends here: sftp, read-only, and of its requests the one that tells where it is. The agent sends
none; it wants an open channel, because only then does sshd set TCP_NODELAY."""

TUNNEL: Mapping[str, Option] = {
    "AllowTcpForwarding": "yes",
    "GatewayPorts": "clientspecified",
    "PermitListen": " ".join(f"{pattern}:{K3S_PORT}" for pattern in POOL_PATTERNS),
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
"""What the drop-in says in its Match block for the tunnel-only user, less what needs root (ChrootDirectory)."""

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
    # Started by root it lets root in, by key: another account would have to be made on somebody's machine.
    "PermitRootLogin": "prohibit-password",
    # Temporary directories lie below /tmp, which everybody may write to; sshd would refuse the key file there.
    "StrictModes": "no",
}


def defaults(version: tuple[int, int]) -> dict[str, Option]:
    """All options that do not name a file or a port, for an OpenSSH version."""
    # Since 9.8 sshd shuts out an address after failed logins: here that is everybody's, 127.0.0.1.
    penalties: dict[str, Option] = {"PerSourcePenalties": "no"} if version >= (9, 8) else {}
    return {**SERVER, **TUNNEL, **penalties}


def merged(base: Mapping[str, Option], changes: Mapping[str, Option]) -> dict[str, Option]:
    """`base` with `changes`; like sshd, names are compared without regard to case."""
    names = {name.lower(): name for name in base}
    return {**base, **{names.get(name.lower(), name): value for name, value in changes.items()}}


def rendered(options: Mapping[str, Option]) -> str:
    """The text of sshd_config."""
    lines = []
    for name, value in options.items():
        values = [value] if isinstance(value, str) else value or []
        lines += [f"{name} {each}\n" for each in values]
    return "".join(lines)
