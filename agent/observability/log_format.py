"""How a log record becomes a line: as JSON for machines, short and coloured for people. Secrets are
cleaned here.

Texts are cleaned before they are put into JSON: escaped, a secret would no longer be recognised.
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
from typing import Any, Protocol

TEXT_LIMIT = 8192
"""Characters kept of one text."""
DEPTH_LIMIT = 6
_RESERVED = ("ts", "level", "event")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[1m", "warning": "\x1b[33;1m", "error": "\x1b[31;1m"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Redactor(Protocol):
    """What makes secrets unreadable (agent/core/text/redaction.py)."""

    def clean(self, text: str, /) -> str:
        """The text without the secrets it knows."""
        ...


class Formatter:
    """Base of both forms: which fields a record has."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor

    def line(self, record: logging.LogRecord) -> str:
        """The record as a line, without its newline. May raise what a field's own `__str__` raises."""
        return self.render(record.created, record.levelname.lower(), *self._event(record))

    def failed(self, record: logging.LogRecord, error: Exception) -> str:
        """In place of a record that cannot be written: names and types only, which cannot fail."""
        fields = {"where": f"{record.filename}:{record.lineno}", "problem": type(error).__name__}
        return self.render(record.created, "error", "log_line_failed", fields)

    def dropped(self, lines: int) -> str:
        """What is said once somebody reads the log again."""
        return self.render(time.time(), "warning", "log_lines_dropped", {"lines": lines})

    def render(self, created_s: float, level: str, event: str, fields: dict[str, Any]) -> str:
        """One line; `fields` are clean."""
        raise NotImplementedError

    def _event(self, record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
        given = getattr(record, "fields", None)
        if given is None:  # a library's own
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
        cleaned = self.redactor.clean(text)  # first: a secret that is cut in two is not recognised
        return (
            cleaned if len(cleaned) <= TEXT_LIMIT else f"{cleaned[:TEXT_LIMIT]}… ({len(cleaned)} characters)"
        )

    def _clean(self, value: object, depth: int = 0) -> Any:
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

    def render(self, created_s: float, level: str, event: str, fields: dict[str, Any]) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s))
        head = {"ts": f"{moment}.{int(created_s * 1000) % 1000:03d}Z", "level": level, "event": event}
        return json.dumps({**head, **fields}, ensure_ascii=False, separators=(",", ":"))


class TerminalFormatter(Formatter):
    """`09:15:02 tunnel_up generation=3 seconds=0.41`, the traceback below. Nobody else's control
    characters.
    """

    def __init__(self, redactor: Redactor, *, colours: bool) -> None:
        super().__init__(redactor)
        self._colours = colours

    def render(self, created_s: float, level: str, event: str, fields: dict[str, Any]) -> str:
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


def _shown(value: Any) -> str:
    if isinstance(value, str):
        plain = value and not re.search(r'[\s"=]', value)
        return _visible(value if plain else json.dumps(value, ensure_ascii=False))
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
