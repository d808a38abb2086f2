"""A log that nobody reads, or that cannot be written, never blocks the agent: lines are dropped and counted."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from agent.observability import logs
from tests.unit.observability.log_cases import GENEROUS_S, redactor_of_secret


@pytest.mark.fault(46)
def test_fault_46_nobody_reads_the_log_pipe() -> None:
    """Writers do not wait for a full pipe; once it is read again, a line says how many are missing."""
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(write_fd, "w") as stream:
        under_test = logs.setup("json", "info", redactor_of_secret(), stream)
        log = logs.get_logger()
        began_s = time.monotonic()
        for number in range(5000):
            log.info("line", number=number)
        assert time.monotonic() - began_s < GENEROUS_S

        text: list[str] = []
        reader = threading.Thread(target=lambda: text.append(_read_all(read_fd)))
        reader.start()
        under_test.close(GENEROUS_S)
    reader.join(GENEROUS_S)
    records = [json.loads(line) for line in text[0].splitlines()]
    dropped = sum(r["lines"] for r in records if r["event"] == "log_lines_dropped")
    assert dropped > 2000
    assert dropped + sum(r["event"] == "line" for r in records) == 5000


def _read_all(fd: int) -> str:
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
    under_test = logs.setup("json", "info", redactor_of_secret(), disk)
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
        under_test = logs.setup("json", "info", redactor_of_secret(), stream)
        for number in range(1000):
            logs.get_logger().info("line", number=number, text="x" * 100)
        text = _read_until(read_fd, '"number":999')
        under_test.close(GENEROUS_S)
    os.close(read_fd)
    assert len(text.splitlines()) == 1000
