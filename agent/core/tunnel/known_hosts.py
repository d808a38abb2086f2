"""Read pinned host key lines, in whatever form they were pasted (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

ssh takes everything behind a key for a comment, so of several entries on one line it would use only the first.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

from agent.core.text.pasted import QUOTES, unescaped, visible

_MARKERS = ("@cert-authority", "@revoked")
_KEY_TYPE = r"(ssh|ecdsa|sk)-[a-z0-9@.-]+"
_BASE64 = r"[A-Za-z0-9+/]+=*"
_VALUES = (("ssh-ed25519", 1), ("ssh-rsa", 2), ("ssh-dss", 4), ("ecdsa-sha2-nistp", 2))
"""How many values follow the type in a public key (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709, 4)."""


def known_hosts(text: str) -> str:
    """Return the lines as ssh reads them: one for each key, without comments.

    Raises:
        ValueError: ssh could not use a line, or none pins anything. The message completes a sentence: "has line 2, …".
    """
    entries = list(_entries(unescaped(visible(text)).strip().strip(QUOTES).splitlines()))
    for number, words in entries:
        problem = _problem(words)
        if problem:
            raise ValueError(f"has line {number}, which {problem}")
    if not any(words[0] != "@revoked" for _, words in entries):
        raise ValueError("holds no host key line; give one as printed by 'ssh-keyscan HOST', checked by you")
    return "".join(f"{' '.join(words)}\n" for _, words in entries)


def _entries(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the words of each entry, and the number of its line. A key that was broken is put together again."""
    started: tuple[int, list[str]] = (0, [])
    for number, line in enumerate(lines, start=1):
        words = line.split()
        is_rest = len(words) == 1 and re.fullmatch(_BASE64, words[0]) is not None
        if is_rest and started[1] and _entry_at(started[1], 0) is None:
            started[1].extend(words)
            continue
        yield from ((started[0], entry) for entry in _on_one_line(started[1]))
        started = (number, words)
    yield from ((started[0], entry) for entry in _on_one_line(started[1]))


def _on_one_line(words: list[str]) -> Iterator[list[str]]:
    """Yield the entries on a line. Words that begin none are a comment, or else yielded to be complained about."""
    place, has_begun = 0, False
    while place < len(words):
        if words[place].startswith("#"):
            # ssh-keyscan prints "# HOST SSH-2.0-…" in front of a key; any other comment goes on to the line's end.
            if words[place] != "#" or not words[place + 2 : place + 3] or "SSH-" not in words[place + 2]:
                return
            place, has_begun = place + 3, True
        elif entry := _entry_at(words, place):
            place, has_begun = entry[0], True
            yield entry[1]
        elif has_begun:
            place += 1
        else:
            yield words
            return


def _entry_at(words: Sequence[str], place: int) -> tuple[int, list[str]] | None:
    """Return the entry that begins there and where it ends, or None."""
    type_at = place + (2 if words[place] in _MARKERS else 1)
    if len(words) <= type_at or not re.fullmatch(_KEY_TYPE, words[type_at]):
        return None
    key = ""
    for end in range(type_at + 1, len(words)):
        if not re.fullmatch(_BASE64, words[end]):
            return None
        key += words[end]
        if _is_whole(words[type_at], key):
            return end + 1, [*words[place : type_at + 1], key]
    return None


def _is_whole(kind: str, key: str) -> bool:
    """Return whether a key in base64 is of this type and complete: SSH strings (RFC 4251, 5) up to its end."""
    try:
        blob = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return False
    values: list[bytes] = []
    offset = 0
    while offset < len(blob):
        end = offset + 4 + int.from_bytes(blob[offset : offset + 4], "big")
        if end > len(blob):
            return False
        values.append(blob[offset + 4 : end])
        offset = end
    expected = next(
        (count for name, count in _VALUES if kind.startswith(name) and "-cert-" not in kind), None
    )
    has_all = len(values) > 1 if expected is None else len(values) == expected + 1
    return has_all and values[0] == kind.encode()


def _problem(words: Sequence[str]) -> str | None:
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
    if not re.fullmatch(_BASE64, words[2]):
        return "holds a key that is not base64; copy the line again"
    return None if _is_whole(words[1], words[2]) else "holds a key that is cut off; copy the line again"
