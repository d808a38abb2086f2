"""Subprocesses, with real ones: what they say, how they end, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters.process import spawn as fork
from agent.adapters.process.child import LINE_LIMIT_BYTES
from agent.adapters.process.run import CommandFailed, CommandNotFound, clean_environment, run, spawn
from agent.errors import ExitCode, TransientError

GENEROUS_S = 30.0


def eventually(condition: Callable[[], bool]) -> bool:
    """Poll until it holds, within a generous deadline."""
    deadline_s = time.monotonic() + GENEROUS_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def running(pid: int) -> bool:
    """A zombie does not run any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- run ---------------------------------------------------------------------------------------


def test_a_command_s_outputs_are_kept_apart() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2"], timeout_s=GENEROUS_S)
    assert (done.code, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_input_larger_than_a_pipe_goes_through() -> None:
    text = "0123456789" * 50_000
    assert run(["cat"], timeout_s=GENEROUS_S, input=text).stdout == text


def test_a_command_that_does_not_want_its_input_may_leave_it() -> None:
    assert run(["true"], timeout_s=GENEROUS_S, input="x" * 500_000).code == 0


def test_a_failure_carries_command_code_and_both_outputs() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo out; echo why >&2; exit 3"], timeout_s=GENEROUS_S)
    error = caught.value
    assert (error.code, error.stdout, error.stderr) == (3, "out\n", "why\n")
    assert error.argv[0] == "sh"
    assert str(error) == "sh: exit code 3: why"


def test_a_signal_is_named() -> None:
    with pytest.raises(CommandFailed, match="killed by SIGFPE"):
        run(["sh", "-c", "kill -FPE $$"], timeout_s=GENEROUS_S)


def test_other_codes_can_be_good() -> None:
    assert run(["sh", "-c", "exit 1"], timeout_s=GENEROUS_S, ok_codes=(0, 1)).code == 1


def test_a_command_that_takes_too_long_is_killed_with_all_it_started() -> None:
    with pytest.raises(CommandFailed, match="did not end within") as caught:
        run(["sh", "-c", "sleep 600 & echo $!; wait"], timeout_s=0.5)
    assert caught.value.code is None
    assert eventually(lambda: not running(int(caught.value.stdout)))


def test_what_a_command_leaves_behind_holds_nobody_up() -> None:
    done = run(["sh", "-c", "sleep 600 & echo $!"], timeout_s=GENEROUS_S)
    assert done.seconds < GENEROUS_S
    assert eventually(lambda: not running(int(done.stdout)))


def test_endless_output_is_bounded() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["yes"], timeout_s=0.5)
    assert len(caught.value.stdout) == 1 << 20


@pytest.mark.fault(48)
def test_fault_48_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandNotFound) as caught:
        run(["no-such-program"], timeout_s=1)
    assert caught.value.exit_code is ExitCode.UNUSABLE
    assert "no-such-program: not found on PATH" in str(caught.value)


@pytest.mark.fault(63)
def test_fault_63_children_get_none_of_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETA9_TOKEN", "secret")
    monkeypatch.setenv("HARMLESS", "kept")
    shown = run(["env"], timeout_s=GENEROUS_S).stdout
    assert "secret" not in shown
    assert "HARMLESS=kept" in shown
    assert clean_environment({"A": "b"})["A"] == "b"


@pytest.mark.fault(47)
def test_fault_47_out_of_descriptors_is_said_and_heals() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    run(["true"], timeout_s=GENEROUS_S)  # what is opened once is open
    before = descriptors()
    held = [os.open("/dev/null", os.O_RDONLY)]
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(TransientError, match="Too many open files"):
            run(["true"], timeout_s=GENEROUS_S)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert run(["true"], timeout_s=GENEROUS_S).code == 0
    assert descriptors() == before


# --- spawn -------------------------------------------------------------------------------------


def test_lines_come_as_they_are_said_and_the_end_comes_last() -> None:
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()
    child = spawn(
        ["sh", "-c", "echo one >&2; echo out; read x; echo two >&2; printf rest >&2; exit 7"],
        name="test",
        on_line=heard.put,
        on_stdout=lambda line: heard.put(f"stdout {line}"),
        on_exit=heard.put,
    )
    first = {heard.get(timeout=GENEROUS_S) for _ in range(2)}
    assert first == {"one", "stdout out"}
    assert child.code is None
    assert child.send_line("go on")
    assert [heard.get(timeout=GENEROUS_S) for _ in range(3)] == ["two", "rest", 7]
    assert child.code == 7
    assert child.tail == ("one", "two", "rest")
    assert not child.send_line("anyone there?")


def test_standard_input_is_held_open() -> None:
    child = spawn(["cat"], name="test")
    assert child.wait(0.2) is None
    assert child.stop(GENEROUS_S) == -signal.SIGTERM


def test_what_was_said_last_is_heard_before_the_end() -> None:
    for _ in range(20):
        heard: queue.SimpleQueue[object] = queue.SimpleQueue()
        spawn(["sh", "-c", "echo last words >&2; exit 1"], name="test", on_line=heard.put, on_exit=heard.put)
        assert [heard.get(timeout=GENEROUS_S) for _ in range(2)] == ["last words", 1]


def test_long_lines_are_cut_and_bytes_that_are_no_text_survive() -> None:
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()
    script = r"head -c 100000 /dev/zero | tr '\0' x >&2; printf '\n\377\200ok\r\n' >&2"
    spawn(["sh", "-c", script], name="test", on_line=heard.put, on_exit=heard.put)
    assert heard.get(timeout=GENEROUS_S) == "x" * LINE_LIMIT_BYTES
    assert heard.get(timeout=GENEROUS_S) == "��ok"
    assert heard.get(timeout=GENEROUS_S) == 0


def test_a_child_that_ignores_term_is_killed_with_all_it_started() -> None:
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    script = "trap '' TERM; sleep 600 & echo $! >&2; while :; do sleep 0.05; done"
    child = spawn(["sh", "-c", script], name="test", on_line=heard.put)
    grandchild = int(heard.get(timeout=GENEROUS_S))
    assert child.stop(grace_s=0.1) == -signal.SIGKILL
    assert not exists(child.pid)
    assert eventually(lambda: not running(grandchild))
    assert child.stop(grace_s=0.1) == -signal.SIGKILL


def test_a_stopped_child_is_killed() -> None:
    """One that handles TERM: without a handler, TERM ends even a stopped process."""
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    script = "trap 'exit 1' TERM; echo up >&2; while :; do sleep 0.05; done"
    child = spawn(["sh", "-c", script], name="test", on_line=heard.put)
    heard.get(timeout=GENEROUS_S)
    child.signal(signal.SIGSTOP)
    assert child.stop(grace_s=0.05) == -signal.SIGKILL


def test_a_grandchild_that_holds_the_pipe_does_not_hide_the_end() -> None:
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()
    spawn(["sh", "-c", "sleep 600 & exit 5"], name="test", on_exit=heard.put)
    assert heard.get(timeout=GENEROUS_S) == 5


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
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    child = spawn(["sleep", "600"], name="test", on_exit=heard.put)
    assert heard.get(timeout=GENEROUS_S) == -signal.SIGKILL
    assert not exists(child.pid)
    assert child.tail == ("given up: Too many open files",)
    with pytest.raises(TransientError, match="Too many open files"):
        run(["true"], timeout_s=GENEROUS_S)


def test_a_child_may_get_a_path_of_its_own(tmp_path: Path) -> None:
    done = run(["/bin/echo", "x"], timeout_s=GENEROUS_S, env={"PATH": str(tmp_path)})
    assert done.stdout == "x\n"


def test_the_fallback_without_setpriv_works_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_setpriv", lambda: None)
    assert run(["echo", "x"], timeout_s=GENEROUS_S).stdout == "x\n"


def test_the_fallback_without_pidfd_works_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(pid: int) -> int:
        raise OSError("Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", too_old)
    assert run(["echo", "x"], timeout_s=GENEROUS_S).stdout == "x\n"
    assert spawn(["sleep", "600"], name="test").stop(GENEROUS_S) == -signal.SIGTERM


@pytest.mark.fault(40)
@pytest.mark.parametrize("setpriv", [True, False])
def test_fault_40_children_die_with_a_killed_agent(setpriv: bool) -> None:
    """The child is asked for by a thread that has ended long before the agent is killed."""
    code = (
        "import threading, time\n"
        "from agent.adapters.process import spawn as fork\n"
        f"{'' if setpriv else 'fork._setpriv = lambda: None'}\n"
        "from agent.adapters.process.run import spawn\n"
        "made = []\n"
        "t = threading.Thread(target=lambda: made.append(spawn(['sleep', '600'], name='x')))\n"
        "t.start(); t.join(); time.sleep(0.2)\n"
        "assert made[0].code is None, 'died with the thread'\n"
        "print(made[0].pid, flush=True); time.sleep(600)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    child = int(agent.stdout.readline())
    assert running(child)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    assert eventually(lambda: not running(child))


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
