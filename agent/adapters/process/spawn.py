"""Starts child processes, for run.py (commands) and child.py (children that stay).

Every child
- leads its own session and process group, so that a signal reaches what it started, too;
- dies with the agent: its parent-death signal is SIGKILL;
- inherits only its three standard file descriptors, and by default no `BETA9_*` variable, which may be a secret.

**Parent-death signal.** It fires when the *thread* that forked ends, not the process (prctl(2)). So one thread that
never ends forks all children. util-linux's `setpriv` sets the signal and then becomes the command. `preexec_fn` would
run Python between fork and exec, which can deadlock in a process with threads; it is used only if `setpriv` lacks the
option (BusyBox). The small shell in between closes the last gap: if the agent dies after the fork and before the prctl,
it is no longer the shell's parent, and the command is not started.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from agent.errors import AgentError, ExitCode, TransientError

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'

Process = subprocess.Popen[bytes]


class CommandFailed(AgentError):  # noqa: N818 - reads as a sentence
    """A command ended with an unaccepted exit code, or not in time (`code` is then None)."""

    def __init__(self, argv: Sequence[str], code: int | None, stdout: str, stderr: str, what: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        output = stderr.strip() or stdout.strip()
        super().__init__(f"{argv[0]}: {what}" + (f": {output[-500:]}" if output else ""))


class CommandNotFound(CommandFailed):
    """The program is not installed, or not on PATH."""

    exit_code = ExitCode.UNUSABLE

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(
            argv, 127, "", "", "not found on PATH; install the package that has it, or correct PATH"
        )


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the agent's environment without `BETA9_*`, with English messages (they are classified), plus `extra`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BETA9_")}
    return {**env, "LC_ALL": "C", **(extra or {})}


def fork(argv: Sequence[str], env: Mapping[str, str] | None, *, stdin: bool, stdout: bool) -> Process:
    """Start `argv`. stderr is a pipe; stdin and stdout are pipes if requested, otherwise /dev/null.

    Raises: CommandNotFound; TransientError if the machine cannot start it now (no descriptors, no memory).
    """
    environment = clean_environment() if env is None else dict(env)
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise CommandNotFound(argv)
    command, preexec = _with_parent_death([program, *argv[1:]])

    def start() -> Process:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=preexec,  # noqa: PLW1509 - None if setpriv works; see the module's docstring
        )

    try:
        return _forker().call(start)
    except OSError as error:
        raise TransientError(f"could not start {argv[0]}: {error}; will retry") from error


def wrapper_that_dies_with_parent() -> tuple[str, ...]:
    """Return a command that makes the one behind it end with the process that starts it; () if there is none."""
    setpriv = _setpriv()
    return () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")


def _with_parent_death(argv: list[str]) -> tuple[list[str], Callable[[], None] | None]:
    setpriv = _setpriv()
    if setpriv is None:
        return argv, _die_with_parent(os.getpid())
    return [
        *wrapper_that_dies_with_parent(),
        "/bin/sh",
        "-c",
        _UNLESS_ORPHANED,
        str(os.getpid()),
        *argv,
    ], None


@functools.cache
def _setpriv() -> str | None:
    """Return setpriv's absolute path (a child may get another PATH), or None if it cannot be used.

    It is tried once, not just searched for: BusyBox's `setpriv` lacks the option.
    """
    path = shutil.which("setpriv")
    if path is None:
        return None
    try:
        trial = subprocess.run(
            [path, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", "exit 0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if trial.returncode == 0 else None


def _die_with_parent(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up here, because it must not happen between fork and exec

    def set_signal() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(125)

    return set_signal


class _Forker:
    """A thread that never ends and forks for all other threads."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[
            tuple[Callable[[], Process], queue.SimpleQueue[Process | Exception]]
        ]
        self._requests = queue.SimpleQueue()
        threading.Thread(target=self._work, name="forker", daemon=True).start()

    def call(self, start: Callable[[], Process]) -> Process:
        answer: queue.SimpleQueue[Process | Exception] = queue.SimpleQueue()
        self._requests.put((start, answer))
        result = answer.get()
        if isinstance(result, Exception):
            raise result
        return result

    def _work(self) -> None:
        while True:
            start, answer = self._requests.get()
            try:
                answer.put(start())
            except Exception as error:  # noqa: BLE001 - the top of a thread: raised again by `call`
                answer.put(error)


_forker = functools.cache(_Forker)
os.register_at_fork(after_in_child=_forker.cache_clear)  # threads do not survive a fork
