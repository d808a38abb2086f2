"""What can be wrong with a link: a kind for decisions, and a message for a person."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FaultKind(str, Enum):
    """Why a link is not up. The value is the label in metrics and logs."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    DNS = "dns"
    HOST_KEY = "host_key"
    AUTH = "auth"
    KEY_FILE = "key_file"
    BIND = "bind"
    ADDRESS = "address"
    """The reverse address reaches another machine's Kubernetes."""
    GATEWAY_PORTS = "gateway_ports"
    RELAY = "relay"
    """No relay on the gateway's host answers for this machine."""
    LOCAL_PORT = "local_port"
    PERMIT_OPEN = "permit_open"
    TARGET = "target"
    """sshd works; what the forward leads to on its side does not."""
    SESSION = "session"
    LOST = "lost"
    SILENT = "silent"
    SECRET = "secret"  # noqa: S105 - a label, not a secret
    NO_SSH = "no_ssh"
    EXITED = "exited"
    TAILSCALED = "tailscaled"
    """The daemon does not answer, is down, or is still starting."""
    TAILNET_LOGIN = "tailnet_login"
    """The machine is not logged in to its tailnet."""
    TAILNET_KEY = "tailnet_key"
    """The machine's key in its tailnet has expired."""


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, and a message that says what to do next."""

    kind: FaultKind
    message: str


TAILNET = frozenset({FaultKind.TAILSCALED, FaultKind.TAILNET_LOGIN, FaultKind.TAILNET_KEY})
"""This machine is not in its tailnet, so nothing there can be reached."""

# A refused key or host key: retrying quickly would only get the source address banned.
DENIED = frozenset({FaultKind.HOST_KEY, FaultKind.AUTH, FaultKind.KEY_FILE})
