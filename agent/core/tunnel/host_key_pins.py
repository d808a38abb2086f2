"""Check a server's host key against pinned fingerprints, during the login itself.

ssh asks its KnownHostsCommand (ssh_config(5), since OpenSSH 8.5) for the keys of the host it has reached, and hands it
the key that this host has just shown. The command here repeats that key if its fingerprint is a pinned one, and
otherwise only reports it. So nothing is fetched beforehand: each connection is a login, made on whatever way ssh finds
(any address of a name, a jump host), and there is nothing to keep and to fetch again when a key is replaced.

A server shows one key for each connection, of the first type that both sides want. If that key is not pinned, the next
connection asks for its other types, until a pinned one is shown or none is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_MARK = "beta9-host-key"
# $1: the pins; $2 to $6: ssh's %I (why it asks), %H (the host, as known_hosts has it), %t, %f and %K.
_SCRIPT = (
    '[ "$2" = HOSTNAME ] || exit 0; '
    f'case ",$1," in *",$5,"*) echo "$3 $4 $6"; echo "{_MARK} pinned $3 $4 $5" >&2 ;; '
    f'*) echo "{_MARK} other $3 $4 $5" >&2 ;; esac'
)
_SHOWN = rf"{_MARK} (?P<which>pinned|other) (?P<host>\S+) (?P<kind>\S+) (?P<fingerprint>SHA256:\S+)"
_FAMILIES = ("ed25519", "ecdsa", "rsa")
_NO_OTHER_TYPE = "no matching host key type found"


@dataclass(frozen=True)
class ShownKey:
    """A host key that a server has shown. `host` is as known_hosts has it, `kind` as in `ssh-ed25519`."""

    host: str
    kind: str
    fingerprint: str


def options(pins: Sequence[str], refused: Iterable[ShownKey] = ()) -> Mapping[str, str]:
    """Return the ssh options that accept only host keys with these fingerprints.

    `refused` are keys of this server, shown earlier, that are not pinned: their types are not asked for again.
    """
    # The pin is the key's, not that of a certificate that some authority has made for it.
    unwanted = dict.fromkeys(["*-cert-v01@openssh.com", *(_family(key.kind) for key in refused)])
    return {
        "UserKnownHostsFile": "/dev/null",
        "KnownHostsCommand": f"/bin/sh -c '{_SCRIPT}' sh {','.join(pins)} %I %H %t %f %K",
        "HostKeyAlgorithms": f"-{','.join(unwanted)}",
    }


def _family(kind: str) -> str:
    return next((f"*{family}*" for family in _FAMILIES if family in kind), kind)


def lookup_name(host: str, port: int) -> str:
    """Return a host the way ssh looks it up (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    return host if port == 22 else f"[{host}]:{port}"


def with_shown(refused: tuple[ShownKey, ...], lines: Iterable[str]) -> tuple[ShownKey, ...]:
    """Return `refused` with the keys that, by ssh's stderr, were shown just now and are not pinned."""
    return (*refused, *(key for which, key in _shown(lines) if which == "other" and key not in refused))


def _shown(lines: Iterable[str]) -> list[tuple[str, ShownKey]]:
    matches = (re.fullmatch(_SHOWN, line.strip()) for line in lines)
    return [
        (match["which"], ShownKey(match["host"].lower(), match["kind"], match["fingerprint"]))
        for match in matches
        if match
    ]


def has_no_other_type(lines: Iterable[str]) -> bool:
    """Return whether the server has no key of the types that are left."""
    return any(_NO_OTHER_TYPE in line for line in lines)


def unproven(refused: Iterable[ShownKey], lines: Iterable[str]) -> tuple[ShownKey, ...]:
    """Return the keys of the server that has no pinned one.

    `lines` is the last attempt's stderr. If ssh found a pinned key at one of several servers on the way, the others
    that this server has shown do not count.
    """
    proven = {key.host for which, key in _shown(lines) if which == "pinned"}
    return tuple(key for key in refused if key.host not in proven)
