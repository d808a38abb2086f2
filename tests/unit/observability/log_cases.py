"""Write log events with a secret that must not appear, and return the resulting lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import IO, Any

from agent.core.text.redaction import Redactor
from agent.observability import logs

SECRET = 'to="ken"\n7f3a4b5c'  # JSON escapes the quote and the newline, after which it would no longer be recognised
GENEROUS_S = 30.0

Write = Callable[[logs.EventLog], None]


def redactor_of_secret() -> Redactor:
    """Return a redactor that knows SECRET."""
    redactor = Redactor()
    redactor.add(SECRET)
    return redactor


def lines_of(
    write: Write, log_format: str = "json", level: str = "debug", stream: IO[str] | None = None
) -> list[str]:
    """Set logging up, let `write` log, and return the lines that were written."""
    stream = stream or io.StringIO()
    under_test = logs.setup(log_format, level, redactor_of_secret(), stream)
    write(logs.get_logger())
    under_test.close(GENEROUS_S)
    stream.seek(0)
    return stream.read().splitlines()


def records_of(write: Write, level: str = "debug") -> list[dict[str, Any]]:
    """Return what `write` logs, as parsed JSON objects."""
    return [json.loads(line) for line in lines_of(write, level=level)]
