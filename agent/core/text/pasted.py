"""What editors, consoles and web pages add to a text that is pasted or saved with them, and how to remove it."""

from __future__ import annotations

import re

QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_INVISIBLE = "[\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
"""Characters without width, byte order marks among them. None of them can be part of a secret of ours."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ESCAPED_BREAK = r"\\+(?:[nrt]|(?=\s|$))"
_ESCAPED_CHARACTER = r"\\+u([0-9a-fA-F]{4})"


def decoded(content: bytes) -> str:
    """Return a file's text, without invisible characters. With a byte order mark it may be UTF-16, as Windows writes.

    Raises: UnicodeDecodeError.
    """
    return visible(content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8"))


def visible(text: str) -> str:
    """Return the text without characters that nobody can see."""
    return re.sub(_INVISIBLE, "", text)


def unescaped(text: str) -> str:
    r"""Return a text that cannot contain a backslash, where line breaks and other escapes were written out (`\n`)."""
    text = re.sub(_ESCAPED_BREAK, "\n", text)
    text = re.sub(_ESCAPED_CHARACTER, lambda match: chr(int(match[1], 16)), text)
    return re.sub(r"\\+/", "/", text)
