"""Real child processes: the lines they write, how they end, and that nothing they started is left behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading

import pytest

from agent.adapters.process.child import LINE_LIMIT_BYTES
from agent.adapters.process.run import run, spawn
from agent.errors import TransientError
from tests.unit.adapters.process.process_table import GENEROUS_S, descriptors, eventually, exists, running


def test_lines_come_as_they_are_said_and_the_end_comes_last() -> None:
    received: queue.SimpleQueue[object] = queue.SimpleQueue()
    child = spawn(
        ["sh", "-c", "echo one >&2; echo out; read x; echo two >&2; printf rest >&2; exit 7"],
        name="test",
        on_line=received.put,
        on_stdout=lambda line: received.put(f"stdout {line}"),
        on_exit=received.put,
    )
    first = {received.get(timeout=GENEROUS_S) for _ in range(2)}
    assert first == {"one", "stdout out"}
    assert child.code is None
    assert child.send_line("go on")
    assert [received.get(timeout=GENEROUS_S) for _ in range(3)] == ["two", "rest", 7]
    assert child.code == 7
    assert child.tail == ("one", "two", "rest")
    assert not child.send_line("anyone there?")


def test_standard_input_is_held_open() -> None:
    child = spawn(["cat"], name="test")
    assert child.wait(0.2) is None
    assert child.stop(GENEROUS_S) == -signal.SIGTERM


def test_what_was_said_last_is_heard_before_the_end() -> None:
    for _ in range(20):
        received: queue.SimpleQueue[object] = queue.SimpleQueue()
        spawn(
            ["sh", "-c", "echo last words >&2; exit 1"],
            name="test",
            on_line=received.put,
            on_exit=received.put,
        )
        assert [received.get(timeout=GENEROUS_S) for _ in range(2)] == ["last words", 1]


def test_long_lines_are_cut_and_bytes_that_are_no_text_survive() -> None:
    received: queue.SimpleQueue[object] = queue.SimpleQueue()
    script = r"head -c 100000 /dev/zero | tr '\0' x >&2; printf '\n\377\200ok\r\n' >&2"
    spawn(["sh", "-c", script], name="test", on_line=received.put, on_exit=received.put)
    assert received.get(timeout=GENEROUS_S) == "x" * LINE_LIMIT_BYTES
    assert received.get(timeout=GENEROUS_S) == "��ok"
    assert received.get(timeout=GENEROUS_S) == 0


def test_a_child_that_ignores_term_is_killed_with_all_it_started() -> None:
    received: queue.SimpleQueue[str] = queue.SimpleQueue()
    script = "trap '' TERM; sleep 600 & echo $! >&2; while :; do sleep 0.05; done"
    child = spawn(["sh", "-c", script], name="test", on_line=received.put)
    grandchild = int(received.get(timeout=GENEROUS_S))
    assert child.stop(grace_s=0.1) == -signal.SIGKILL
    assert not exists(child.pid)
    assert eventually(lambda: not running(grandchild))
    assert child.stop(grace_s=0.1) == -signal.SIGKILL


def test_a_stopped_child_is_killed() -> None:
    """The child handles TERM: without a handler, TERM would end even a stopped process."""
    received: queue.SimpleQueue[str] = queue.SimpleQueue()
    script = "trap 'exit 1' TERM; echo up >&2; while :; do sleep 0.05; done"
    child = spawn(["sh", "-c", script], name="test", on_line=received.put)
    received.get(timeout=GENEROUS_S)
    child.signal(signal.SIGSTOP)
    assert child.stop(grace_s=0.05) == -signal.SIGKILL


def test_a_grandchild_that_holds_the_pipe_does_not_hide_the_end() -> None:
    received: queue.SimpleQueue[object] = queue.SimpleQueue()
    spawn(["sh", "-c", "sleep 600 & exit 5"], name="test", on_exit=received.put)
    assert received.get(timeout=GENEROUS_S) == 5


def test_a_call_back_that_raises_leaves_no_zombie(monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: queue.SimpleQueue[object] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", crashes.put)

    def bad(line: str) -> None:
        raise RuntimeError(line)

    child = spawn(["sh", "-c", "echo x >&2; sleep 600"], name="test", on_line=bad, on_exit=crashes.put)
    assert crashes.get(timeout=GENEROUS_S) == -signal.SIGKILL
    assert not exists(child.pid)
    crashes.get(timeout=GENEROUS_S)


@pytest.mark.fault(47)
def test_fault_47_a_child_that_cannot_be_listened_to_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptors() -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr("selectors.DefaultSelector", no_descriptors)
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    child = spawn(["sleep", "600"], name="test", on_exit=received.put)
    assert received.get(timeout=GENEROUS_S) == -signal.SIGKILL
    assert not exists(child.pid)
    assert child.tail == ("given up: Too many open files",)
    with pytest.raises(TransientError, match="Too many open files"):
        run(["true"], timeout_s=GENEROUS_S)


def test_two_hundred_children_leave_nothing() -> None:
    def round_trip() -> None:
        child = spawn(["cat"], name="test", on_stdout=str)
        child.stop(grace_s=GENEROUS_S)

    round_trip()
    assert eventually(lambda: not any(t.name == "child-test" for t in threading.enumerate()))
    threads, open_before = threading.active_count(), descriptors()
    for _ in range(200):
        round_trip()
    assert eventually(lambda: threading.active_count() == threads)
    assert descriptors() == open_before
    assert (
        subprocess.run(["pgrep", "-P", str(os.getpid()), "cat"], capture_output=True, check=False).stdout
        == b""
    )
