"""How a child process is started. Used by process.py (commands) and child.py (children that stay).

Every child
- leads a session and process group of its own, so that a signal reaches what it started, too;
- dies with the agent: its parent-death signal is KILL;
- inherits no file descriptor but its three, and by default no `BETA9_*` variable (secrets have no business
  there).

**Parent-death.** prctl(2): the signal fires when the *thread* that forked ends, not the process. So all
children are forked by one thread that never ends. The signal is set by util-linux's `setpriv`, which then
becomes the command; `preexec_fn` would run Python between fork and exec, which can deadlock in a process
with threads, and is used only where `setpriv` cannot do it (BusyBox). The small shell in between closes
the last gap: an agent that died after the fork and before the prctl is no longer the shell's parent, and
the command is not started.
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


class CommandFailed(AgentError):  # noqa: N818 - what happened, said as a sentence would
    """A command ended with a code other than 0, or not in time; `code` is None when it ran out of time."""

    def __init__(self, argv: Sequence[str], code: int | None, stdout: str, stderr: str, what: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        said = stderr.strip() or stdout.strip()
        super().__init__(f"{argv[0]}: {what}" + (f": {said[-500:]}" if said else ""))


class CommandNotFound(CommandFailed):
    """There is no such program on this machine."""

    exit_code = ExitCode.UNUSABLE

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(
            argv, 127, "", "", "not found on PATH; install the package that has it, or correct PATH"
        )


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The agent's environment without `BETA9_*`, messages in English (they get classified), plus `extra`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BETA9_")}
    return {**env, "LC_ALL": "C", **(extra or {})}


def fork(argv: Sequence[str], env: Mapping[str, str] | None, *, stdin: bool, stdout: bool) -> Process:
    """Start `argv`; stderr is a pipe, stdin and stdout are pipes where asked for, else /dev/null.

    Raises: CommandNotFound; TransientError where the machine cannot start one now (no descriptors, no
    memory).
    """
    environment = clean_environment() if env is None else dict(env)
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise CommandNotFound(argv)
    command, preexec = _dying_with_us([program, *argv[1:]])

    def start() -> Process:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=preexec,  # noqa: PLW1509 - None wherever setpriv is there; see the docstring above
        )

    try:
        return _forker().call(start)
    except OSError as error:
        raise TransientError(f"could not start {argv[0]}: {error}; tried again later") from error


def _dying_with_us(argv: list[str]) -> tuple[list[str], Callable[[], None] | None]:
    setpriv = _setpriv()
    if setpriv is None:
        return argv, _die_with(os.getpid())
    return [
        setpriv,
        "--pdeathsig",
        "KILL",
        "--",
        "/bin/sh",
        "-c",
        _UNLESS_ORPHANED,
        str(os.getpid()),
        *argv,
    ], None


@functools.cache
def _setpriv() -> str | None:
    """Where it is: by its whole path, since a child may get another PATH than ours.

    Tried once rather than only looked for: BusyBox has a `setpriv` that lacks the option.
    """
    path = shutil.which("setpriv")
    if path is None:
        return None
    try:
        tried = subprocess.run(
            [path, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", "exit 0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if tried.returncode == 0 else None


def _die_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up here: the child between fork and exec must not

    def set_signal() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(125)

    return set_signal


class _Forker:
    """A thread that never ends and forks for all others."""

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
