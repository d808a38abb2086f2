"""Types of parsed settings. Plain data: nothing here reads or decides anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from agent.core.config import Connection, K3sMode, ReverseMode

__all__ = [
    "Connection",
    "Forward",
    "HostPort",
    "Interruption",
    "JumpHost",
    "K3sMode",
    "LifecycleHook",
    "ReverseMode",
    "SecretRef",
    "bracketed",
]


class Interruption(str, Enum):
    """Which cloud's interruption notices the agent acts on."""

    AUTO = "auto"
    AWS = "aws"
    NONE = "none"


@dataclass(frozen=True)
class HostPort:
    """A host name or address, and a TCP port. `str()` puts IPv6 addresses in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class Forward:
    """One `ssh -L` forward: `bind:port` on this machine leads to `host:host_port` as seen from the SSH host."""

    bind: str
    port: int
    host: str
    host_port: int

    def __str__(self) -> str:
        return f"{bracketed(self.bind)}:{self.port}:{bracketed(self.host)}:{self.host_port}"


@dataclass(frozen=True)
class JumpHost:
    """A host to go through to the SSH host; `user` None: the same as there."""

    host: str
    port: int = 22
    user: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.user}@{HostPort(self.host, self.port)}"
            if self.user
            else str(HostPort(self.host, self.port))
        )


@dataclass(frozen=True)
class LifecycleHook:
    """A lifecycle hook of an EC2 Auto Scaling group."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"


@dataclass(frozen=True)
class SecretRef:
    """Where a secret comes from: exactly one of value, file and reference. `adapters.secrets` resolves it.

    `value` is the secret itself, so `repr` and `str` omit it; file and reference are only names.
    """

    setting: str
    value: str | None = field(default=None, repr=False)
    file: Path | None = None
    reference: str | None = None

    @property
    def is_token(self) -> bool:
        """Whether the text is a single line (a token or tailnet key), as opposed to a file for ssh."""
        return is_token(self.setting)


def is_token(setting: str) -> bool:
    """Return whether a secret is a single line, which may be stripped."""
    return setting.endswith(("_TOKEN", "_TAILSCALE_AUTH"))


def bracketed(host: str) -> str:
    """Put an IPv6 address in brackets, as URLs and ssh forwards need it; return any other host unchanged."""
    return f"[{host}]" if ":" in host else host
