"""`run` with real commands: output, exit codes, time limits, and that nothing they started is left behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from agent.adapters.process.run import CommandFailed, CommandNotFound, clean_environment, run
from agent.errors import ExitCode, TransientError
from tests.unit.adapters.process.process_table import GENEROUS_S, descriptors, eventually, running


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
    output = run(["env"], timeout_s=GENEROUS_S).stdout
    assert "secret" not in output
    assert "HARMLESS=kept" in output
    assert clean_environment({"A": "b"})["A"] == "b"


@pytest.mark.fault(47)
def test_fault_47_out_of_descriptors_is_said_and_heals() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    run(["true"], timeout_s=GENEROUS_S)  # opens what is opened only once
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
