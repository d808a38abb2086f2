"""Recognise private keys and host key lines, and say what is wrong with others.

Formats as in OpenSSH's PROTOCOL.key, RFC 7468 (PEM) and sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
No key is verified cryptographically here: ssh does that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

_KEY = r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----(?P<body>(?s:.+?))-----END (?P=kind)-----\s*"
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_MARKERS = ("@cert-authority", "@revoked")
_KEY_TYPE = r"(ssh|ecdsa|sk)-[a-z0-9@.-]+"


def key_problem(text: str) -> str | None:
    """Say why ssh could not use a text as a private key without asking a person, or None.

    The answer completes a sentence: "is encrypted; …". Line endings and a missing final newline do
    not matter: the private copy has them corrected.
    """
    if "-----BEGIN" in text and "\\n" in text:
        return "has '\\n' written out where line breaks belong; give the file by BETA9_SSH_KEY_FILE instead"
    match = re.search(_KEY, text)
    if not match:
        return _not_a_key(text)
    if text[: match.start()].strip() or text[match.end() :].strip():
        return "has other text around the private key; give the key alone"
    if match["kind"] == "ENCRYPTED PRIVATE KEY" or "Proc-Type: 4,ENCRYPTED" in match["body"]:
        return _ENCRYPTED
    if match["kind"] == "OPENSSH PRIVATE KEY":
        return _openssh_problem(match["body"])
    return None


_ENCRYPTED = (
    "is encrypted with a passphrase, which nobody is there to type;"
    " make a key for this machine with 'ssh-keygen -t ed25519 -N \"\" -f FILE'"
)


def _not_a_key(text: str) -> str:
    if re.match(r"\s*(ssh|ecdsa|sk)-\S+ AAAA", text):
        return "is a public key; give the private one (the file without .pub)"
    if "PuTTY-User-Key-File" in text:
        return "is a PuTTY key; convert it with 'puttygen KEY -O private-openssh -o FILE'"
    if "PRIVATE KEY-----" in text:
        return "is cut off: BEGIN and END lines of a private key must both be there"
    return "is not a private key ('-----BEGIN …'); give the key's text, or its path by BETA9_SSH_KEY_FILE"


def _openssh_problem(body: str) -> str | None:
    try:
        blob = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return "is damaged: the text between BEGIN and END is not base64"
    cipher = _string_at(blob, len(_OPENSSH_MAGIC))
    if not blob.startswith(_OPENSSH_MAGIC) or cipher is None:
        return "is damaged: the text between BEGIN and END is not an OpenSSH key"
    return None if cipher == b"none" else _ENCRYPTED


def _string_at(blob: bytes, offset: int) -> bytes | None:
    """Read an SSH string (RFC 4251, 5: a 32-bit length, then as many bytes), or None where it is cut off."""
    length = int.from_bytes(blob[offset : offset + 4], "big")
    value = blob[offset + 4 : offset + 4 + length]
    return value if len(blob) >= offset + 4 and len(value) == length else None


def known_hosts_problem(text: str) -> str | None:
    """Say which line ssh could not use as a pinned host key, or that none pins anything, or None."""
    pinned = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        problem = _line_problem(words)
        if problem:
            return f"has line {number}, which {problem}"
        pinned += words[0] != "@revoked"
    return (
        None
        if pinned
        else "holds no host key line; give one as printed by 'ssh-keyscan HOST', checked by you"
    )


def _line_problem(words: list[str]) -> str | None:
    if words[0].startswith("@"):
        if words[0] not in _MARKERS:
            return f"begins with an unknown marker; use {' or '.join(_MARKERS)}"
        words = words[1:]
    if words and re.fullmatch(_KEY_TYPE, words[0]):
        return (
            "has no host in front of the key type; write 'HOST ssh-ed25519 AAAA…'"
            " ('[HOST]:PORT …' if not port 22)"
        )
    if len(words) < 3 or not re.fullmatch(_KEY_TYPE, words[1]):
        return "is not 'HOST KEYTYPE KEY'; give lines as 'ssh-keyscan HOST' prints them, checked by you"
    return None if fingerprint(words[2]) else "holds a key that is not base64; copy the line again"


def fingerprint(key: str) -> str | None:
    """Return `SHA256:…` of a public key in base64 (as ssh-keygen -l prints it), or None for anything else."""
    try:
        blob = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"
