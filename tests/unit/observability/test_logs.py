"""Log lines: what they look like, that secrets are not in them, and that nobody's silence stops the agent."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.text.redaction import Redactor
from agent.observability import logs
from agent.observability.log_format import JsonFormatter, TerminalFormatter
from agent.observability.log_throttle import LogThrottle, Repeats

SECRET = 'to="ken"\n7f3a4b5c'  # a quote and a newline: escaped by JSON, it would not be recognised any more
GENEROUS_S = 30.0


def cleaner() -> Redactor:
    redactor = Redactor()
    redactor.add(SECRET)
    return redactor


class Terminal(io.StringIO):
    """Stands for a person's terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging is global to the process; leave it as it was found."""
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions = True
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


Write = Callable[[logs.EventLog], None]


def lines_of(
    write: Write, log_format: str = "json", level: str = "debug", stream: IO[str] | None = None
) -> list[str]:
    stream = stream or io.StringIO()
    under_test = logs.setup(log_format, level, cleaner(), stream)
    write(logs.get_logger())
    under_test.close(GENEROUS_S)
    stream.seek(0)
    return stream.read().splitlines()


def records_of(write: Write, level: str = "debug") -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(write, level=level)]


def test_an_event_is_one_json_object() -> None:
    (record,) = records_of(lambda log: log.info("tunnel_up", generation=3, seconds=0.41, peer=None, ok=True))
    moment = record.pop("ts")
    assert record == {
        "level": "info", "event": "tunnel_up", "generation": 3, "seconds": 0.41, "peer": None, "ok": True,
    }  # fmt: skip
    assert time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S")
    assert moment.endswith("Z")


def test_levels_below_the_chosen_one_are_left_out() -> None:
    def write(log: logs.EventLog) -> None:
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")

    assert [r["event"] for r in records_of(write, level="warning")] == ["c", "d"]
    assert [r["event"] for r in records_of(write, level="debug")] == ["a", "b", "c", "d"]


def test_fields_may_be_anything_and_may_not_hide_our_own() -> None:
    (record,) = records_of(
        lambda log: log.info(
            "x", level=1, ts=2, path=Path("/a"), nan=float("nan"), bad=b"\xff", nested={"a": [1, {2}]}
        )
    )
    assert record["level"] == "info"
    assert (record["level_"], record["ts_"]) == (1, 2)
    assert record["path"] == "/a"
    assert record["nan"] == "nan"
    assert record["bad"] == "\\xff"
    assert record["nested"] == {"a": [1, [2]]}


def test_a_field_that_cannot_be_shown_costs_its_line_only() -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

    def write(log: logs.EventLog) -> None:
        log.info("first", bad=Bad())
        log.info("second")

    first, second = records_of(write)
    assert (first["event"], first["problem"]) == ("log_line_failed", "RuntimeError")
    assert second["event"] == "second"


def test_huge_texts_are_cut() -> None:
    (line,) = lines_of(lambda log: log.info("x", text="y" * 100_000))
    assert len(line) < 9000


@pytest.mark.fault(63)
@pytest.mark.parametrize("log_format", ["json", "human"])
def test_fault_63_no_secret_leaves_by_any_way(log_format: str) -> None:
    class Token:
        def __str__(self) -> str:
            return f"Token({SECRET})"

    def write(log: logs.EventLog) -> None:
        log.info("plain", token=SECRET)
        log.info(f"event {SECRET}")
        log.info("nested", a={"b": [SECRET, {SECRET: SECRET}]}, c=(SECRET,), d=Token(), e=SECRET.encode())
        log.info("inside", line=f"curl -H 'Authorization: Bearer {SECRET}'")
        try:
            int(SECRET)
        except ValueError as error:
            log.error("failed", error=error)  # noqa: TRY400 - this is not logging's own
        logging.getLogger("urllib3").warning("url %s", SECRET)
        warnings.warn(SECRET, RuntimeWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        text = "\n".join(lines_of(write, log_format))
    assert "7f3a" not in text
    assert text.count("[redacted]") >= 10


def test_a_libraries_record_says_whose_it_is() -> None:
    def write(log: logs.EventLog) -> None:
        logging.getLogger("urllib3.connectionpool").debug("too much")
        logging.getLogger("urllib3.connectionpool").warning("retry %d", 3)

    (record,) = records_of(write)
    assert record["event"] == "library_message"
    assert (record["logger"], record["message"]) == ("urllib3.connectionpool", "retry 3")


def test_a_terminal_gets_short_coloured_lines_and_a_pipe_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    (line,) = lines_of(lambda log: log.info("tunnel_up", generation=3), "auto", stream=Terminal())
    assert "\x1b[1mtunnel_up\x1b[0m" in line
    assert line.endswith("3")
    (line,) = lines_of(lambda log: log.info("tunnel_up"), "auto")
    assert json.loads(line)["event"] == "tunnel_up"


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (line,) = lines_of(lambda log: log.warning("slow", text="two words", n=1), "auto", stream=Terminal())
    assert line[8:] == ' warning slow text="two words" n=1'


def test_nobody_else_s_control_characters_reach_a_terminal() -> None:
    banner = "\x1b]0;owned\x07\r\nnew line\x9b2J"
    (line,) = lines_of(lambda log: log.info("said", line=banner), "human")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)


@given(text=st.text())
def test_any_text_is_one_line_in_both_forms(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, text, (), None)
    record.fields = {"field": text}
    line = JsonFormatter(cleaner()).line(record)
    assert "\n" not in line
    assert json.loads(line)["field"] == text
    assert len(TerminalFormatter(cleaner(), colours=False).line(record).splitlines()) == 1
    line.encode(errors="backslashreplace")


def test_uncaught_exceptions_of_process_and_threads_are_events() -> None:
    code = (
        "import threading\n"
        "from agent.observability.logs import setup\n"
        "from agent.core.text.redaction import Redactor\n"
        f"r = Redactor(); r.add({SECRET!r}); setup('json', 'info', r)\n"
        f"def boom(): raise RuntimeError({SECRET!r})\n"
        "t = threading.Thread(target=boom, name='worker'); t.start(); t.join()\n"
        "boom()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    thread, process = (json.loads(line) for line in done.stderr.splitlines())
    assert (thread["event"], thread["thread"]) == ("thread_crashed", "worker")
    assert process["event"] == "uncaught_exception"
    assert process["error"].startswith("RuntimeError: [redacted]")
    assert "boom" in process["traceback"]
    assert "7f3a" not in done.stderr


@pytest.mark.fault(46)
def test_fault_46_nobody_reads_the_log_pipe() -> None:
    """The pipe is full and stays so; writers do not wait. Read again, it tells how many lines are missing."""
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(write_fd, "w") as stream:
        under_test = logs.setup("json", "info", cleaner(), stream)
        log = logs.get_logger()
        began_s = time.monotonic()
        for number in range(5000):
            log.info("line", number=number)
        assert time.monotonic() - began_s < GENEROUS_S

        text: list[str] = []
        reader = threading.Thread(target=lambda: text.append(_read_to_the_end(read_fd)))
        reader.start()
        under_test.close(GENEROUS_S)
    reader.join(GENEROUS_S)
    records = [json.loads(line) for line in text[0].splitlines()]
    dropped = sum(r["lines"] for r in records if r["event"] == "log_lines_dropped")
    assert dropped > 2000
    assert dropped + sum(r["event"] == "line" for r in records) == 5000


def _read_to_the_end(fd: int) -> str:
    with os.fdopen(fd) as stream:
        return stream.read()


def _read_until(fd: int, text: str) -> str:
    read = ""
    while text not in read or not read.endswith("\n"):
        read += os.read(fd, 65536).decode()
    return read


@pytest.mark.fault(46)
def test_fault_46_a_reader_that_is_gone_or_asleep_does_not_keep_the_process_from_ending() -> None:
    code = (
        "from agent.observability.logs import setup, get_logger\n"
        "setup('json', 'info'); log = get_logger()\n"
        "for n in range(5000): log.info('line', text='x' * 100)\n"
        "print('done', flush=True)\n"
    )
    for reader_gone in (True, False):
        read_fd, write_fd = os.pipe()
        if reader_gone:
            os.close(read_fd)
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write_fd, text=True
        )
        os.close(write_fd)
        out, _ = process.communicate(timeout=GENEROUS_S)
        assert out == "done\n"
        assert process.returncode == 0
        if not reader_gone:
            os.close(read_fd)


def test_a_disk_that_was_full_gets_the_count_afterwards() -> None:
    class Disk(io.StringIO):
        full = False

        def write(self, text: str) -> int:
            if self.full:
                raise OSError("No space left on device")
            return super().write(text)

    disk = Disk()
    under_test = logs.setup("json", "info", cleaner(), disk)
    log = logs.get_logger()
    disk.full = True
    log.info("lost")
    log.info("lost")
    deadline_s = time.monotonic() + GENEROUS_S
    while under_test.dropped < 2 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    disk.full = False
    log.info("kept")
    under_test.close(GENEROUS_S)
    events = [json.loads(line) for line in disk.getvalue().splitlines()]
    assert [(e["event"], e.get("lines")) for e in events] == [("kept", None), ("log_lines_dropped", 2)]


def test_a_non_blocking_pipe_loses_nothing() -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with os.fdopen(write_fd, "w") as stream:
        under_test = logs.setup("json", "info", cleaner(), stream)
        for number in range(1000):
            logs.get_logger().info("line", number=number, text="x" * 100)
        text = _read_until(read_fd, '"number":999')
        under_test.close(GENEROUS_S)
    os.close(read_fd)
    assert len(text.splitlines()) == 1000


# --- an outage is a handful of lines -----------------------------------------------------------


def test_an_hour_of_failing_attempts_is_a_handful_of_lines() -> None:
    quiet = LogThrottle()
    said = [(now_s, r) for now_s in range(0, 3600, 4) if (r := quiet.again("gateway", now_s))]
    assert [now_s for now_s, _ in said] == [0, 60, 360, 1260]
    assert said[-1][1] == Repeats(times=316, lasted_s=1260)
    assert quiet.over("gateway", 3600) == Repeats(times=900, lasted_s=3600)
    assert quiet.over("gateway", 3600) is None


def test_the_longest_pause_goes_on() -> None:
    quiet = LogThrottle()
    said = [now_s for now_s in range(0, 20_000, 10) if quiet.again("gateway", now_s)]
    assert said == [0, 60, 360, 1260, 4860, 8460, 12060, 15660, 19260]


def test_troubles_are_counted_apart_and_start_anew() -> None:
    quiet = LogThrottle()
    assert quiet.again("a", 0)
    assert quiet.again("b", 1)
    assert quiet.again("a", 2) is None
    quiet.over("a", 3)
    assert quiet.again("a", 4) == Repeats(1, 0)
