"""Remove secrets from text that people will read: logs, error messages, tracebacks, ssh's stderr, /status.

Known secrets are found in every encoding that our outputs can give them, and also when only a part of one is
there (a line of a key, a message cut off at some length, base64 broken into lines): any run of
`FRAGMENT` characters or more that occurs in a secret is removed, wherever it begins.

How: each spelling is cut into grams of GRAM characters, one beginning every GRAM characters. A run of
2 x GRAM - 1 characters of a spelling holds one of these grams whole, so one dictionary look-up for each
character of a text finds the run, and comparing to both sides gives its ends. That costs the same however many
secrets there are: 54 us for a line of 190 characters. One regular expression with all spellings as alternatives
finds no parts, and with an RSA key it takes 167 us a line and 0.1 s to compile (measured).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MARK = "[redacted]"
GRAM = 8
FRAGMENT = 2 * GRAM - 1
SHORTEST = 4
"""Shorter texts are not secrets, and removing them would leave nonsense ("a" in every word)."""
_PLACES_PER_GRAM = 16
"""For a secret that repeats itself ("aaaa…"): more places for the same gram would find nothing more."""

_KEY_BLOCK = re.compile(
    r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).+?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_BEARER = re.compile(r"(bearer\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)


class Redactor:
    """Replace known secrets with `MARK`. `clean` may run in any thread while another one adds."""

    def __init__(self) -> None:
        self._places: dict[str, list[tuple[str, int]]] = {}
        self._short: re.Pattern[str] | None = None
        self._short_spellings: set[str] = set()
        self._known: set[str] = set()

    def add(self, secret: str) -> None:
        """Remove this secret from now on. Texts of fewer than SHORTEST characters are ignored.

        A secret of SHORTEST to GRAM - 1 characters is removed only where it is a word of its own.
        """
        secret = secret.strip()
        if len(secret) < SHORTEST or secret in MARK or secret in self._known:
            return
        self._known.add(secret)
        for spelling in _spellings(secret):
            if len(spelling) >= GRAM:
                self._index(spelling)
        self._add_short({s for s in _as_text(secret) if len(s) < GRAM})

    def clean(self, text: str) -> str:
        """Return the text without any known secret, private key block or bearer token in it."""
        if "PRIVATE KEY-----" in text:
            text = _KEY_BLOCK.sub(rf"\1{MARK}\2", text)
        text = _BEARER.sub(rf"\1{MARK}", text)
        if self._short:
            text = self._short.sub(MARK, text)
        return self._without_runs(text) if self._places else text

    def _index(self, spelling: str) -> None:
        for place in range(0, len(spelling) - GRAM + 1, GRAM):
            places = self._places.setdefault(spelling[place : place + GRAM], [])
            # The beginning of a spelling is never left out: it alone finds spellings shorter than a fragment.
            if place == 0 or len(places) < _PLACES_PER_GRAM:
                places.append((spelling, place))

    def _add_short(self, spellings: set[str]) -> None:
        if spellings:
            self._short_spellings |= spellings
            words = "|".join(re.escape(s) for s in sorted(self._short_spellings, key=len, reverse=True))
            self._short = re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])")

    def _without_runs(self, text: str) -> str:
        kept: list[str] = []
        done = position = 0
        while position <= len(text) - GRAM:
            places = self._places.get(text[position : position + GRAM])
            run = _longest_run(text, position, done, places) if places else None
            if run is None:
                position += 1
                continue
            start, end = run
            # Runs side by side (the parts of an escaped key) become one mark.
            kept.append(text[done:start] + ("" if kept and start == done else MARK))
            done = position = end
        kept.append(text[done:])
        return "".join(kept)


def _longest_run(
    text: str, position: int, floor: int, places: list[tuple[str, int]]
) -> tuple[int, int] | None:
    """Return the longest stretch of the text around `position` that occurs in a spelling, if it is long enough."""
    best: tuple[int, int] | None = None
    for spelling, place in places:
        start, end = _run(text, position, floor, spelling, place)
        is_long = end - start >= min(FRAGMENT, len(spelling))
        if is_long and (best is None or end - start > best[1] - best[0]):
            best = start, end
    return best


def _run(text: str, position: int, floor: int, spelling: str, place: int) -> tuple[int, int]:
    start, index = position, place
    while start > floor and index > 0 and text[start - 1] == spelling[index - 1]:
        start, index = start - 1, index - 1
    end, index = position + GRAM, place + GRAM
    while end < len(text) and index < len(spelling) and text[end] == spelling[index]:
        end, index = end + 1, index + 1
    return start, end


def _spellings(secret: str) -> set[str]:
    lines = [line.strip() for line in secret.splitlines()]
    # Lines stand for the whole of a key, and what frames it ("-----BEGIN …") is no secret.
    parts = [line for line in lines if not line.startswith("-----")] if len(lines) > 1 else [secret]
    found = {spelling for part in parts for spelling in _as_text(part)}
    # HTTP headers carry ISO 8859-1, all else UTF-8; the same bytes for all but rare tokens.
    for raw in {secret.encode(errors="replace"), secret.encode("latin-1", errors="ignore")}:
        found |= set(_as_base64(raw)) | set(_as_url(raw))
    return found


def _as_text(secret: str) -> set[str]:
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
    }


def _as_url(raw: bytes) -> Iterator[str]:
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield encoded
        yield re.sub(r"%..", lambda match: match[0].lower(), encoded)


def _as_base64(raw: bytes) -> Iterator[str]:
    """Return base64 for each of the three offsets at which the secret can lie in a longer text that is encoded whole.

    Only characters that hold bits of the secret alone are used; those at the ends are shared with its neighbours.
    """
    for ahead in range(3):
        encoded = base64.b64encode(bytes(ahead) + raw)
        own = encoded[-(-ahead * 8 // 6) : (ahead + len(raw)) * 8 // 6].decode()
        yield own
        yield own.replace("+", "-").replace("/", "_")
