"""Parsers from text to value, one function per kind of setting.

Each raises ValueError that says what is wrong and what to give instead. The caller puts the setting's name and value
in front ("BETA9_GATEWAY_PORT: 'abc' is not a port; …").
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeVar

from agent.core.text.describe import shown
from agent.core.text.pasted import QUOTES, visible
from agent.settings.values import Forward, HostPort, JumpHost, LifecycleHook

E = TypeVar("E", bound=Enum)

# Not compiled here: `re` compiles and caches only those that a start really needs.
_HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}"
_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_FORWARD = (
    r"((?P<bind>\[[^\]]*\]|[^:\[\]]*):)?(?P<port>[^:\[\]]+)"
    r":(?P<host>\[[^\]]*\]|[^:\[\]]+):(?P<host_port>[^:\[\]]+)"
)
_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}=?"
_KEYGEN_LINE = rf"\b[0-9]+\s+({_FINGERPRINT})\s.*?\([A-Z0-9-]+\)"
"""As 'ssh-keygen -l' prints a key: bits, fingerprint, comment, (type)."""


def text(value: str) -> str:
    """Return any text unchanged."""
    return value


def name(value: str) -> str:
    """Parse the name of a pool or provider. Both become part of a Kubernetes label and of the gateway's keys."""
    if not re.fullmatch(_NAME, value):
        raise ValueError(
            "is not a valid name for the gateway; give 1-63 letters, digits, '-', '_' or '.',"
            " beginning and ending with a letter or digit"
        )
    return value


def machine_id(value: str) -> str:
    """Parse a machine id. Lower case only, because the machine's addresses are derived from these characters."""
    if not re.fullmatch(r"[0-9a-f]{8}", value):
        raise ValueError(
            "is not a machine id; give 8 hexadecimal characters in lower case, such as 1165a9b6"
            " ('beta9 machine create' prints it), or leave it unset"
        )
    return value


def port(value: str) -> int:
    """Parse a TCP port, 1-65535."""
    number = port_or_any(value)
    if number == 0:
        raise ValueError("is not a port; give a whole number from 1 to 65535")
    return number


def port_or_any(value: str) -> int:
    """Parse a TCP port to listen on; with 0 the system chooses one."""
    if not (value.isascii() and value.isdigit() and int(value[:6]) <= 65535 and len(value) <= 5):
        raise ValueError("is not a port; give a whole number from 1 to 65535")
    return int(value)


def host(value: str) -> str:
    """Parse a host name or IP address; brackets around IPv6 are removed.

    Rejects everything that ssh could mistake for an option or a second argument.
    """
    if "://" in value:
        raise ValueError("is a URL; give only the host name, without scheme, path or port")
    if value.startswith("[") and value.endswith("]"):
        value = value[1:-1]
    if ":" in value:
        return _ipv6(value)
    if "@" in value:
        raise ValueError("contains a user name; give only the host name (BETA9_SSH_USER is the user)")
    if len(value) > 253 or not re.fullmatch(_HOST, value):
        raise ValueError(
            "is not a host name or IP address; give one such as gateway.example.com or 192.0.2.7"
        )
    return value


def _ipv6(value: str) -> str:
    from ipaddress import IPv6Address  # noqa: PLC0415 - 3 ms, and most hosts have names

    head, _, tail = value.rpartition(":")
    try:
        IPv6Address(value)
    except ValueError as error:
        if tail.isdigit() and ":" not in head:
            raise ValueError("contains a port; give only the host name") from error
        raise ValueError("is not a host name or IP address; IPv6 looks like 2001:db8::7") from error
    if "%" in value and not re.fullmatch(r"[^%]+%[A-Za-z0-9_.-]{1,15}", value):
        raise ValueError(
            "contains an interface name that ssh does not accept; give an address such as fe80::1%eth0"
        )
    return value


def user(value: str) -> str:
    """Parse a login name for ssh. OpenSSH itself has rejected shell characters in it since 9.6."""
    if not re.fullmatch(_USER, value):
        raise ValueError("is not a login name; give letters, digits, '_', '.', '-', not beginning with '-'")
    return value


def bind_address(value: str) -> str:
    """Parse `auto`, or the address on the SSH host that `ssh -R` binds."""
    if value == "auto":
        return value
    if value == "*":
        raise ValueError("would expose the machine's k3s to everyone who can reach the SSH host; use auto")
    return host(value)


def host_port(value: str) -> HostPort:
    """Parse `host:port` of something to connect to."""
    address, number = _split(value)
    return HostPort(address, port(number))


def listen_address(value: str) -> HostPort:
    """Parse `host:port` to listen on; with port 0 the system chooses one."""
    address, number = _split(value)
    return HostPort(address, port_or_any(number))


def _split(value: str) -> tuple[str, str]:
    address, colon, number = value.rpartition(":")
    if not colon or not address or (":" in address and not address.startswith("[")):
        raise ValueError(
            "is not host:port; give one such as localhost:31994, or [2001:db8::7]:31994 for IPv6"
        )
    return host(address), number


def forwards(value: str) -> tuple[Forward, ...]:
    """Parse comma-separated `[bind:]port:host:port`; bind defaults to 127.0.0.1."""
    return tuple(_forward(part.strip()) for part in value.split(",") if part.strip())


def _forward(part: str) -> Forward:
    syntax = "write [bind:]port:host:port, such as 6379:redis:6379, with IPv6 addresses in brackets"
    match = re.fullmatch(_FORWARD, part)
    if not match:
        raise ValueError(f"contains {shown(part)}, which is not a valid forward; {syntax}")
    try:
        bind = host(match["bind"] or "127.0.0.1")
        return Forward(bind, port(match["port"]), host(match["host"]), port(match["host_port"]))
    except ValueError as error:
        raise ValueError(f"contains {shown(part)}, of which one part {error}; {syntax}") from error


def jump_hosts(value: str) -> tuple[JumpHost, ...]:
    """Parse comma-separated `[user@]host[:port]`, the first of which is dialled from here."""
    return tuple(_jump_host(part.strip()) for part in value.split(",") if part.strip())


def _jump_host(part: str) -> JumpHost:
    login, at, place = part.rpartition("@")
    # More than one colon without brackets is an IPv6 address.
    has_port = place.count(":") == 1 or "]:" in place
    try:
        address = host_port(place) if has_port else HostPort(host(place), 22)
        return JumpHost(address.host, address.port, user(login) if at else None)
    except ValueError as error:
        syntax = "write [user@]host[:port], with IPv6 addresses in brackets"
        raise ValueError(f"contains {shown(part)}, of which one part {error}; {syntax}") from error


def fingerprints(value: str) -> str:
    """Check host key fingerprints, or lines of 'ssh-keygen -l'; return them comma-separated, without padding."""
    value = re.sub(_KEYGEN_LINE, r"\1", visible(value))
    parts = [
        part.strip(QUOTES) for part in re.split(r"[\s,;]+", value.strip().strip(QUOTES)) if part.strip(QUOTES)
    ]
    parts = [re.sub(r"(?i)^sha256:", "SHA256:", part) for part in parts]
    if not parts or not all(re.fullmatch(_FINGERPRINT, part) for part in parts):
        raise ValueError(
            "is not the fingerprint of a host key; give SHA256: and 43 characters, as printed on the SSH"
            " host by 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' (MD5 is not accepted)"
        )
    return ",".join(dict.fromkeys(part.rstrip("=") for part in parts))


def lifecycle_hook(value: str) -> LifecycleHook:
    """Parse `GROUP/HOOK`: an EC2 Auto Scaling group, and one of its lifecycle hooks."""
    group, _, hook = value.partition("/")
    if not re.fullmatch(r"[^\s/]{1,255}", group) or not re.fullmatch(r"[A-Za-z0-9_/-]{1,255}", hook):
        raise ValueError("is not a lifecycle hook; give GROUP/HOOK")
    return LifecycleHook(group, hook)


def path(value: str) -> Path:
    """Parse a file path; `~` is expanded."""
    if not value.isprintable():
        raise ValueError("is not a file path")
    return expanded(value)


def expanded(value: str) -> Path:
    """Expand `~` and `~user`; leave an unknown user as it is, where Path.expanduser raises RuntimeError."""
    return Path(os.path.expanduser(value))  # noqa: PTH111 - see above


def state_dir(value: str) -> Path:
    """Parse the state directory; return it absolute. Its files appear in ssh options, which expand some characters."""
    directory = path(value).absolute()
    if re.search(r'[%":\\]', str(directory)):
        raise ValueError('contains a character that is special to ssh (one of % : " \\)')
    return directory


def url(value: str) -> str:
    """Parse an http(s) base URL; a trailing slash is removed."""
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value) or not value.isprintable():
        raise ValueError("is not a base URL; give one such as http://169.254.169.254")
    return value.rstrip("/")


def choice(kind: type[E]) -> Callable[[str], E]:
    """Return a parser for the values of an enumeration, in any case."""

    def parse(value: str) -> E:
        try:
            return kind(value.lower())
        except ValueError as error:
            raise ValueError(f"is not one of {', '.join(str(member.value) for member in kind)}") from error

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser for a choice of words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return value.lower()

    return parse
