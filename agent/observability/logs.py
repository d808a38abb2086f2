"""Logging of events with fields: one JSON object per line, or short coloured lines on a terminal.

    log = get_logger()
    log.info("tunnel_up", generation=3, seconds=0.41)

Every text is redacted, tracebacks included. Logging never blocks the agent: lines go to a bounded queue that one
thread writes. While nobody reads the other end, lines are dropped and counted; the count is logged once it is read
again.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from types import TracebackType
from typing import IO

from agent.observability.log_format import Formatter, JsonFormatter, Redactor, TerminalFormatter
from agent.observability.log_writer import LineWriter

LOGGER_NAME = "beta9"
FLUSH_S = 1.0
"""How long a process that is exiting waits for its last lines to be written."""
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _NoRedaction:
    """Used until the settings are read: no secret is known before that."""

    def clean(self, text: str, /) -> str:
        return text


class EventLog:
    """Logs events, each a stable name with fields. Never raises."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: object) -> None:
        """Log a detail that helps debugging."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Log a change of state."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log a problem that the agent works around."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Log a problem that needs a person; an exception passed as `error` adds its traceback."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            error = fields.get("error") if level == logging.ERROR else None
            trace = error if isinstance(error, BaseException) else None
            self._logger.log(level, event, extra={"fields": fields}, exc_info=trace)


def get_logger() -> EventLog:
    """Return the agent's log. Before `setup` is called, only warnings and errors appear, unformatted."""
    return EventLog(logging.getLogger(LOGGER_NAME))


class Logs:
    """The logging that `setup` installed."""

    def __init__(self, handler: _Handler, writer: LineWriter) -> None:
        self._handler = handler
        self._writer = writer

    @property
    def dropped(self) -> int:
        """Number of dropped lines that the log does not mention yet."""
        return self._writer.dropped

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Write the queued lines for up to `timeout_s`, then stop; later lines are lost."""
        logging.getLogger().removeHandler(self._handler)
        self._writer.close(timeout_s)


def setup(
    log_format: str = "auto",
    level: str = "info",
    redactor: Redactor | None = None,
    stream: IO[str] | None = None,
) -> Logs:
    """Send all logging of this process and every uncaught exception to `stream` (default: stderr).

    `log_format`: "json"; "auto" (JSON unless the stream is a terminal); anything else is the format for people.
    Records of libraries are logged from warning level up. Call once per process.
    """
    stream = stream or sys.stderr
    formatter = _formatter(log_format, redactor or _NoRedaction(), stream)
    writer = LineWriter(stream, formatter.dropped)
    handler = _Handler(formatter, writer)
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER_NAME).setLevel(LEVELS.get(level.lower(), logging.INFO))
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    _install_exception_hooks()
    logs = Logs(handler, writer)
    atexit.register(logs.close)
    return logs


def _formatter(log_format: str, redactor: Redactor, stream: IO[str]) -> Formatter:
    terminal = _is_terminal(stream)
    if log_format == "json" or (log_format == "auto" and not terminal):
        return JsonFormatter(redactor)
    return TerminalFormatter(redactor, colours=terminal and "NO_COLOR" not in os.environ)


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):  # a closed stream
        return False


class _Handler(logging.Handler):
    def __init__(self, formatter: Formatter, writer: LineWriter) -> None:
        super().__init__()
        self.line_formatter = formatter
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record. Never raises: a record that cannot be formatted is replaced by a line that says so."""
        try:
            line = self.line_formatter.line(record)
        except Exception as error:  # noqa: BLE001 - a field's __str__ may raise anything
            line = self.line_formatter.failed(record, error)
        self._writer.put(line)


def _install_exception_hooks() -> None:
    log = get_logger()

    def process_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            log.info("interrupted")
        else:
            log.error("uncaught_exception", error=error.with_traceback(trace))

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            log.error(
                "thread_crashed", error=args.exc_value, thread=args.thread.name if args.thread else None
            )

    def unraisable_hook(args: sys.UnraisableHookArgs) -> None:
        log.error("unraisable_exception", error=args.exc_value, where=repr(args.object))

    sys.excepthook = process_hook
    threading.excepthook = thread_hook
    sys.unraisablehook = unraisable_hook
