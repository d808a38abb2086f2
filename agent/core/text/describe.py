"""Describe values for messages: the shape of a text without its contents, and what is wrong with a bearer token.

Messages go to people and logs, so nothing here ever returns a secret's own characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

SHOWN_CHARACTERS = 40
"""Longer values are described instead of shown: a machine token (88 characters) pasted into the wrong
setting must not appear in the message that complains about it."""


def shape(text: str) -> str:
    """Describe a text by length and kind only, such as "text of 12 characters with a line break"."""
    if not text:
        return "an empty text"
    kinds = [kind for kind, holds in _KINDS if holds(text)]
    return f"text of {len(text)} characters" + (f" with {' and '.join(kinds)}" if kinds else "")


def shown(text: str) -> str:
    """Quote a value that is not a secret; describe one that may be a misplaced secret by its shape."""
    if text and len(text) <= SHOWN_CHARACTERS and text.isprintable() and "PRIVATE KEY" not in text:
        return f"'{text}'"
    return shape(text)


def token_problem(text: str) -> str | None:
    """Say why a text cannot travel unchanged in an HTTP `Authorization: Bearer` header, or None.

    RFC 9110, 5.5: a field value holds no control characters (nor spaces at its ends, which the caller has removed);
    Python's http.client encodes it as ISO 8859-1. The answer completes a sentence and never shows the text.
    """
    if not text:
        return "is empty; give the token"
    if "\n" in text or "\r" in text:
        return "holds a line break, which an HTTP header cannot carry; give the token alone, on one line"
    if any(_is_control(character) for character in text):
        return "holds control characters, which an HTTP header cannot carry; copy the token again"
    if not text.isascii() and any(ord(character) > 0xFF for character in text):
        return "holds characters outside ISO 8859-1, which an HTTP header cannot carry; copy the token again"
    return None


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, or None when nothing is close."""
    from difflib import get_close_matches  # noqa: PLC0415 - 4 ms, needed only when something is wrong

    matches = get_close_matches(name, list(names), n=1, cutoff=0.7)
    return matches[0] if matches else None


def _is_control(character: str) -> bool:
    return ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0


_KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("a line break", lambda text: "\n" in text or "\r" in text),
    ("control characters", lambda text: any(_is_control(c) and c not in "\r\n" for c in text)),
    ("characters outside ISO 8859-1", lambda text: any(ord(c) > 0xFF for c in text)),
    ("blanks at its ends", lambda text: text != text.strip(" ")),
)
