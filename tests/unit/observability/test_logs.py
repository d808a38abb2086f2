"""Log events: their fields, their levels, and that no secret is in them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from agent.observability import logs
from tests.unit.observability.log_cases import SECRET, lines_of, records_of


def test_an_event_is_one_json_object() -> None:
    (record,) = records_of(lambda log: log.info("tunnel_up", generation=3, seconds=0.41, peer=None, ok=True))
    timestamp = record.pop("ts")
    assert record == {
        "level": "info", "event": "tunnel_up", "generation": 3, "seconds": 0.41, "peer": None, "ok": True,
    }  # fmt: skip
    assert time.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S")
    assert timestamp.endswith("Z")


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
            log.error("failed", error=error)  # noqa: TRY400 - EventLog, not logging
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
