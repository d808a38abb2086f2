"""The types that settings have once they are read. Nothing here reads or decides anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from agent.core.config import Connection, K3sMode

__all__ = [
    "Connection",
    "Forward",
    "HostPort",
    "Interruption",
    "K3sMode",
    "LifecycleHook",
    "SecretRef",
    "bracketed",
]


class Interruption(str, Enum):
    """Whose notices of an end of the machine are listened to."""

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
    """One `ssh -L`: what listens here, and what it reaches on the gateway's side."""

    bind: str
    port: int
    host: str
    host_port: int

    def __str__(self) -> str:
        return f"{bracketed(self.bind)}:{self.port}:{bracketed(self.host)}:{self.host_port}"


@dataclass(frozen=True)
class LifecycleHook:
    """A hook of an EC2 Auto Scaling group."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"


@dataclass(frozen=True)
class SecretRef:
    """Where a secret is to be had: exactly one of value, file, reference. `adapters.secrets` resolves it.

    `value` is the secret itself and is left out of `repr` and `str`; file and reference are only names.
    """

    setting: str
    value: str | None = field(default=None, repr=False)
    file: Path | None = None
    reference: str | None = None

    @property
    def is_token(self) -> bool:
        """Whether the text is one line (a token, a tailnet's key), rather than lines for ssh."""
        return is_token(self.setting)


def is_token(setting: str) -> bool:
    """Whether a secret is one line, from whose ends blanks may be taken."""
    return setting.endswith(("_TOKEN", "_TAILSCALE_AUTH"))


def bracketed(host: str) -> str:
    """Put an IPv6 address in brackets, as in URLs and in ssh's forwards; leave all else alone."""
    return f"[{host}]" if ":" in host else host
