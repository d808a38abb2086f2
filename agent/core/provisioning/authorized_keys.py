"""The line of `authorized_keys` that lets a key open a machine's tunnel, and do nothing else.

Formats: sshd(8), AUTHORIZED_KEYS FILE FORMAT; public keys as in RFC 4253, 6.6 and RFC 5656, 3.1.
Keys are not verified cryptographically here: sshd does that.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from agent.core.text.describe import shape, shown
from agent.core.tunnel.addresses import POOL_PATTERNS, candidates
from agent.errors import SettingsError

DEFAULT_TARGET = "localhost:31994"
"""The gateway's HTTP port on a Kubernetes node (NodePort); the default of BETA9_SSH_TARGET."""
K3S_PORT = 6443
"""The port on which the gateway dials every machine's k3s."""
SOCKS_PORT = 1080
"""The port on which the relay on the gateway's host asks a machine for any other port of it."""
LISTENS = (K3S_PORT, SOCKS_PORT)
"""What a machine listens on at its addresses: one of the two, in the plain form or for any port."""
ANY_HOST = "*"
RSA_BITS = 2048
"""Current distributions reject smaller keys by their crypto policies."""

_PARTS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
}
"""Key types that a machine can use unattended, and the number of strings in each."""
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+")
_TARGET = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*):([0-9]{1,5})")


@dataclass(frozen=True)
class Grant:
    """What one key may do. Without machine ids, it is for a whole pool whose machines are not known in advance."""

    machine_ids: tuple[str, ...] = ()
    targets: tuple[str, ...] = (DEFAULT_TARGET,)
    """Each is `host:port`, spelled exactly as in the agent's settings: sshd compares text and resolves no names."""


def key_line(public_key: str, grant: Grant, *, cert_authority: bool = False) -> str:
    """Return the line for `authorized_keys`, without line break.

    With `cert_authority` the key signs user certificates, and the line applies to all of those.
    Raises: SettingsError for a key, machine id or target that sshd could not use.
    """
    key = _public_key(public_key)
    marker = ("cert-authority",) if cert_authority else ()
    return f"{','.join((*marker, *options(grant)))} {key}"


def options(grant: Grant) -> tuple[str, ...]:
    """Return the options of the line: everything off, except forwards to and from exactly these places.

    A pool's key may listen on a pattern, because sshd matches `permitlisten` hosts as patterns. But `permitopen` hosts
    are literal, or `*` for any (tested with OpenSSH 9.2). The probe of the reverse path must open the machine's own
    address, so a pool's key may open port 6443 of any host.
    """
    for machine_id in grant.machine_ids:
        if not re.fullmatch(r"[0-9a-f]{8}", machine_id):
            raise SettingsError(
                f"machine id {shown(machine_id)}: give 8 hexadecimal characters in lower case, as shown by"
                " 'beta9-worker status'"
            )
    own = tuple(address for machine_id in grant.machine_ids for address in candidates(machine_id))
    opens = [_target(target) for target in grant.targets]
    opens += [f"{host}:{K3S_PORT}" for host in own or (ANY_HOST,)]
    listens = [f"{host}:{port}" for host in own or POOL_PATTERNS for port in LISTENS]
    return (
        "restrict",
        "port-forwarding",
        *(f'permitopen="{place}"' for place in opens),
        *(f'permitlisten="{place}"' for place in listens),
    )


def _target(target: str) -> str:
    match = _TARGET.fullmatch(target)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise SettingsError(
            f"target {shown(target)}: give host:port as in BETA9_SSH_TARGET, such as {DEFAULT_TARGET},"
            " with IPv6 addresses in brackets"
        )
    return target


def _public_key(text: str) -> str:
    """Check a public key and return it as one line, "type base64 comment"."""
    if "PRIVATE KEY" in text:
        raise SettingsError(
            "public key: this is a private key, which must not leave its machine; give the .pub file"
            " ('ssh-keygen -y -f KEY' prints its content)"
        )
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise SettingsError(f"public key: found {len(lines)} keys in {shape(text)}; give exactly one")
    kind, _, rest = lines[0].partition(" ")
    if not _KEY_TYPE.fullmatch(kind):
        raise SettingsError(
            "public key: does not begin with a key type such as ssh-ed25519; give the line as written by"
            " 'ssh-keygen', without options in front"
        )
    if kind not in _PARTS:
        raise SettingsError(
            f"public key: type {shown(kind)} cannot be used unattended; create a key with"
            " 'ssh-keygen -t ed25519 -N \"\" -f FILE'"
        )
    encoded, _, comment = rest.strip().partition(" ")
    problem = _blob_problem(kind, encoded)
    if problem:
        raise SettingsError(f"public key: {problem}; copy the whole line of the .pub file again")
    comment = "".join(character for character in comment.strip() if character.isprintable())
    return " ".join(part for part in (kind, encoded, comment) if part)


def _blob_problem(kind: str, encoded: str) -> str | None:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return f"what follows {kind} is not base64"
    parts = _strings(blob)
    if parts is None or len(parts) != _PARTS[kind]:
        return f"what follows {kind} is cut off or damaged"
    if parts[0] != kind.encode():
        return f"it says {kind}, but contains a key of another type"
    if kind == "ssh-ed25519" and len(parts[1]) != 32:
        return "an ed25519 key has 32 bytes"
    if kind == "ssh-rsa" and int.from_bytes(parts[2], "big").bit_length() < RSA_BITS:
        return f"an RSA key needs at least {RSA_BITS} bits"
    return None


def _strings(blob: bytes) -> list[bytes] | None:
    """Split a blob into SSH strings (RFC 4251, 5: 32-bit length, then that many bytes); None if malformed."""
    parts = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < max(end, 4):
            return None
        parts.append(blob[4:end])
        blob = blob[end:]
    return parts
