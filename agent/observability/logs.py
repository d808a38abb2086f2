"""Log lines: events with fields, one JSON object a line, or short coloured lines on a terminal.

    log = get_logger()
    log.info("tunnel_up", generation=3, seconds=0.41)

Every text that leaves here went through the redactor, tracebacks included. Nothing here can stop the
agent: lines go to a bounded queue, one thread writes them, and when nobody reads the other end lines are
dropped, counted, and the count is logged as soon as somebody reads again.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from types import TracebackType
from typing import IO, Any

from agent.observability.log_format import Formatter, JsonFormatter, Redactor, TerminalFormatter
from agent.observability.log_writer import LineWriter

LOGGER_NAME = "beta9"
FLUSH_S = 1.0
"""How long an ending process waits for its last lines to be taken."""
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Nothing:
    """Until settings are read there is no secret to know."""

    def clean(self, text: str, /) -> str:
        return text


class EventLog:
    """Writes events: a stable name, and fields. Never raises."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: object) -> None:
        """For whoever is looking for a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """A change of state."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Something is not as it should be, and the agent goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Something a person has to see to; an exception given as `error` adds its traceback."""
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            error = fields.get("error") if level == logging.ERROR else None
            trace = error if isinstance(error, BaseException) else None
            self._logger.log(level, event, extra={"fields": fields}, exc_info=trace)


def get_logger() -> EventLog:
    """The agent's log. Before `setup` was called, only warnings and errors are written, bare."""
    return EventLog(logging.getLogger(LOGGER_NAME))


class Logs:
    """What `setup` set up."""

    def __init__(self, handler: _Handler, writer: LineWriter) -> None:
        self._handler = handler
        self._writer = writer

    @property
    def dropped(self) -> int:
        """Lines lost so far and not yet owned up to."""
        return self._writer.dropped

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Write what is queued, for as long as `timeout_s`, and stop; later lines are lost."""
        logging.getLogger().removeHandler(self._handler)
        self._writer.close(timeout_s)


def setup(
    log_format: str = "auto",
    level: str = "info",
    redactor: Redactor | None = None,
    stream: IO[str] | None = None,
) -> Logs:
    """Send all logging of this process to `stream` (stderr), and every uncaught exception, too.

    `log_format` is "json"; "auto": "json" unless the stream is a terminal; anything else: for a person.
    Libraries' own records pass from warning up. Call once per process.
    """
    stream = stream or sys.stderr
    formatter = _formatter(log_format, redactor or _Nothing(), stream)
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
    _catch_the_uncaught()
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
        """Never raises: a line that cannot be made says so instead."""
        try:
            line = self.line_formatter.line(record)
        except Exception as error:  # noqa: BLE001 - whatever a field's __str__ or the redactor may raise
            line = self.line_formatter.failed(record, error)
        self._writer.put(line)


def _catch_the_uncaught() -> None:
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

    def unraisable_hook(args: Any) -> None:
        log.error("unraisable_exception", error=args.exc_value, where=repr(args.object))

    sys.excepthook = process_hook
    threading.excepthook = thread_hook
    sys.unraisablehook = unraisable_hook
