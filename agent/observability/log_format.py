"""Formats log records: JSON for machines, short coloured lines for people. Secrets are redacted here.

Redaction comes before JSON encoding: once escaped, a secret would no longer be recognised.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
import traceback
from collections.abc import Mapping
from enum import Enum
from typing import Protocol

TEXT_LIMIT = 8192
"""Maximum characters of one text."""
DEPTH_LIMIT = 6
_RESERVED = ("ts", "level", "event")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[1m", "warning": "\x1b[33;1m", "error": "\x1b[31;1m"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Redactor(Protocol):
    """Removes secrets from texts (agent/core/text/redaction.py)."""

    def clean(self, text: str, /) -> str:
        """Return the text without any known secret."""
        ...


class Formatter:
    """Base class: extracts a record's fields; subclasses render them."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor

    def line(self, record: logging.LogRecord) -> str:
        """Return the record as one line without a newline. Raises whatever a field's `__str__` raises."""
        return self.render(record.created, record.levelname.lower(), *self._event(record))

    def failed(self, record: logging.LogRecord, error: Exception) -> str:
        """Return the line that replaces an unprintable record: names and types only, so this cannot fail."""
        fields: dict[str, object] = {
            "where": f"{record.filename}:{record.lineno}",
            "problem": type(error).__name__,
        }
        return self.render(record.created, "error", "log_line_failed", fields)

    def dropped(self, lines: int) -> str:
        """Return the line that reports how many lines were dropped."""
        return self.render(time.time(), "warning", "log_lines_dropped", {"lines": lines})

    def render(self, created_s: float, level: str, event: str, fields: dict[str, object]) -> str:
        """Return one line. `fields` are redacted already."""
        raise NotImplementedError

    def _event(self, record: logging.LogRecord) -> tuple[str, dict[str, object]]:
        given = getattr(record, "fields", None)
        if given is None:  # logged by a library
            event, given = "library_message", {"logger": record.name, "message": record.getMessage()}
        else:
            event = record.msg
        fields = {self._key(name): self._clean(value) for name, value in given.items()}
        if record.exc_info and record.exc_info[1] is not None:
            fields.setdefault("error", self._clean(record.exc_info[1]))
            fields["traceback"] = self._text("".join(traceback.format_exception(record.exc_info[1])))
        return self._text(event), fields

    def _key(self, name: str) -> str:
        return f"{name}_" if name in _RESERVED else name

    def _text(self, text: str) -> str:
        cleaned = self.redactor.clean(text)  # before cutting: half a secret would not be recognised
        return (
            cleaned if len(cleaned) <= TEXT_LIMIT else f"{cleaned[:TEXT_LIMIT]}… ({len(cleaned)} characters)"
        )

    def _clean(self, value: object, depth: int = 0) -> object:
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return round(value, 6) if math.isfinite(value) else str(value)
        if isinstance(value, Mapping) and depth < DEPTH_LIMIT:
            return {self._text(str(k)): self._clean(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)) and depth < DEPTH_LIMIT:
            return [self._clean(v, depth + 1) for v in value]
        return self._text(_as_text(value))


def _as_text(value: object) -> str:
    match value:
        case bytes():
            return value.decode(errors="backslashreplace")
        case Enum():
            return str(value.value)
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case _:
            return str(value)


class JsonFormatter(Formatter):
    """`{"ts": "2026-01-31T09:15:02.481Z", "level": …, "event": …, …}`"""

    def render(self, created_s: float, level: str, event: str, fields: dict[str, object]) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s))
        head = {"ts": f"{moment}.{int(created_s * 1000) % 1000:03d}Z", "level": level, "event": event}
        return json.dumps({**head, **fields}, ensure_ascii=False, separators=(",", ":"))


class TerminalFormatter(Formatter):
    """`09:15:02 tunnel_up generation=3 seconds=0.41`, then the traceback. Control characters are escaped."""

    def __init__(self, redactor: Redactor, *, colours: bool) -> None:
        super().__init__(redactor)
        self._colours = colours

    def render(self, created_s: float, level: str, event: str, fields: dict[str, object]) -> str:
        trace = str(fields.pop("traceback", ""))
        shown = " ".join(f"{self._paint(_DIM, name + '=')}{_shown(value)}" for name, value in fields.items())
        label = event if level == "info" else f"{level} {event}"
        parts = (
            self._paint(_DIM, time.strftime("%H:%M:%S", time.localtime(created_s))),
            self._paint(_COLOURS.get(level, ""), _visible(label)),
            shown,
            *(f"\n    {_visible(line)}" for line in trace.splitlines()),
        )
        return " ".join(part for part in parts if part).replace(" \n", "\n")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours and colour else text


def _shown(value: object) -> str:
    if isinstance(value, str):
        plain = value and not re.search(r'[\s"=]', value)
        return _visible(value if plain else json.dumps(value, ensure_ascii=False))
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
