"""Recognise private keys, in whatever form they were pasted, and say what is wrong with others.

Formats as in OpenSSH's PROTOCOL.key, RFC 7468 (PEM), RFC 8017 (PKCS #1), RFC 5958 (PKCS #8) and RFC 5915 (SEC 1).
No key is verified cryptographically here: ssh does that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from agent.core.text.pasted import QUOTES, unescaped, visible

_DASH = "[-\u2010-\u2015\u2212]"
"""Word processors replace hyphens."""
_KEY = (
    rf"{_DASH}*BEGIN(?P<kind>[A-Z0-9]*)PRIVATEKEY{_DASH}+(?P<body>.+?)"
    rf"{_DASH}+END(?P=kind)PRIVATEKEY{_DASH}*"
)
_CURVE = rf"{_DASH}*BEGINECPARAMETERS{_DASH}+[A-Za-z0-9+/=]*{_DASH}+ENDECPARAMETERS{_DASH}*"
"""What openssl writes in front of a key for an elliptic curve. The key repeats it."""
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_OPENSSH_WIDTH, _PEM_WIDTH = 70, 64
_ASN1_SEQUENCE = 0x30


def private_key(text: str) -> str:
    """Return a private key in the form that ssh reads: markers and base64 on lines of their own.

    All white space that was added or lost on the way is put right: base64 and markers leave no doubt.

    Raises:
        ValueError: ssh could not use it without asking a person. The message completes a sentence: "is encrypted; …".
    """
    compact = "".join(unescaped(visible(text)).split()).strip(QUOTES)
    match = re.search(_KEY, compact)
    if not match:
        raise ValueError(_not_a_key(text, compact))
    around = compact[: match.start()] + compact[match.end() :]
    if re.sub(_CURVE, "", around):
        raise ValueError("has other text around the private key; give the key alone")
    if match["kind"] == "ENCRYPTED" or "Proc-Type:4,ENCRYPTED" in match["body"]:
        raise ValueError(_ENCRYPTED)
    body = match["body"].rstrip("=")
    body += "=" * (-len(body) % 4)
    problem = _body_problem(match["kind"], body)
    if problem:
        raise ValueError(problem)
    return _wrapped(match["kind"], body)


def _wrapped(kind: str, body: str) -> str:
    label = f"{kind} PRIVATE KEY".strip()
    width = _OPENSSH_WIDTH if kind == "OPENSSH" else _PEM_WIDTH
    lines = [body[start : start + width] for start in range(0, len(body), width)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


_ENCRYPTED = (
    "is encrypted with a passphrase, which nobody is there to type;"
    " make a key for this machine with 'ssh-keygen -t ed25519 -N \"\" -f FILE'"
)


def _not_a_key(text: str, compact: str) -> str:
    if re.match(r"\s*(ssh|ecdsa|sk)-\S+\s+AAAA", visible(text)):
        return "is a public key; give the private one (the file without .pub)"
    if "PuTTY-User-Key-File" in text:
        return "is a PuTTY key; convert it with 'puttygen KEY -O private-openssh -o FILE'"
    if "PRIVATEKEY-" in compact:
        return "is cut off: BEGIN and END lines of a private key must both be there"
    return "is not a private key ('-----BEGIN …'); give the key's text, or its path by BETA9_SSH_KEY_FILE"


def _body_problem(kind: str, body: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9+/]*=*", body):
        return "is damaged: the text between BEGIN and END is not base64"
    try:
        blob = base64.b64decode(body, validate=True)
    except binascii.Error:
        return _CUT
    return _openssh_problem(blob) if kind == "OPENSSH" else _pem_problem(blob)


def _openssh_problem(blob: bytes) -> str | None:
    """Check the frame of the format: magic, cipher, kdf and its options, the number of keys, and the two halves."""
    if not blob.startswith(_OPENSSH_MAGIC):
        return "is damaged: the text between BEGIN and END is not an OpenSSH key"
    offset = len(_OPENSSH_MAGIC)
    parts: list[bytes] = []
    while len(parts) < 5:
        offset += 4 if len(parts) == 3 else 0  # the number of keys, which is one
        part = _string_at(blob, offset)
        if part is None:
            return _CUT
        parts.append(part)
        offset += 4 + len(part)
    if parts[0] != b"none":
        return _ENCRYPTED
    return _CUT if offset != len(blob) else None


_CUT = "is damaged: a part of the text between BEGIN and END is missing, or there is too much of it; copy the key again"


def _string_at(blob: bytes, offset: int) -> bytes | None:
    """Read an SSH string (RFC 4251, 5: a 32-bit length, then as many bytes), or None where it is cut off."""
    length = int.from_bytes(blob[offset : offset + 4], "big")
    value = blob[offset + 4 : offset + 4 + length]
    return value if len(blob) >= offset + 4 and len(value) == length else None


def _pem_problem(blob: bytes) -> str | None:
    """Check that the blob is one ASN.1 sequence (X.690, 8.1: a tag, a length, and that many bytes), and no more."""
    if len(blob) < 2 or blob[0] != _ASN1_SEQUENCE:
        return "is damaged: the text between BEGIN and END is not a key"
    length, header = blob[1], 2
    if length >= 0x80:
        header += length - 0x80
        length = int.from_bytes(blob[2:header], "big")
    return None if len(blob) == header + length else _CUT


def fingerprint(key: str) -> str | None:
    """Return `SHA256:…` of a public key in base64 (as ssh-keygen -l prints it), or None for anything else."""
    try:
        blob = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"
