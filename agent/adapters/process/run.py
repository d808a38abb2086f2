"""The only way to start a process: `run` for a command that ends, `spawn` (child.py) for a child that stays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.adapters.process.child import Child, spawn
from agent.adapters.process.pump import Sink, describe_exit, pump, reap
from agent.adapters.process.spawn import (
    CommandFailed,
    CommandNotFound,
    clean_environment,
    fork,
    wrapper_that_dies_with_parent,
)
from agent.errors import TransientError

__all__ = [
    "Child",
    "CommandFailed",
    "CommandNotFound",
    "Completed",
    "clean_environment",
    "describe_exit",
    "run",
    "spawn",
    "wrapper_that_dies_with_parent",
]

OUTPUT_LIMIT_BYTES = 1 << 20
"""How much `run` keeps of stdout and of stderr; the rest is read and dropped."""


@dataclass(frozen=True)
class Completed:
    """A command that ended with an accepted exit code."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float


def run(
    argv: Sequence[str],
    timeout_s: float,
    input: str | None = None,  # noqa: A002 - subprocess.run's own name for it
    env: Mapping[str, str] | None = None,
    ok_codes: Sequence[int] = (0,),
) -> Completed:
    """Run a command to its end, with `input` on its standard input; `env` None means `clean_environment()`.

    Whatever it leaves running in its process group is killed.
    Raises: CommandNotFound; CommandFailed for an exit code not in `ok_codes`, or after `timeout_s`; TransientError if
    the machine cannot start a process now.
    """
    began_s = time.monotonic()
    process = fork(argv, env, stdin=input is not None, stdout=True)
    stdout, stderr = bytearray(), bytearray()
    assert process.stdout is not None  # noqa: S101 - for the type checker: both are pipes
    assert process.stderr is not None  # noqa: S101
    sinks = {process.stdout: _append_to(stdout), process.stderr: _append_to(stderr)}
    try:
        in_time = pump(process, sinks, began_s + timeout_s, (input or "").encode())
    except OSError as error:
        raise TransientError(f"could not read the output of {argv[0]}: {error}; will retry") from error
    finally:
        code = reap(process)
    out, err = (text.decode(errors="replace") for text in (stdout, stderr))
    if not in_time:
        raise CommandFailed(argv, None, out, err, f"did not end within {timeout_s:g} s and was killed")
    if code is None or code not in ok_codes:
        raise CommandFailed(argv, code, out, err, describe_exit(code))
    return Completed(tuple(argv), code, out, err, time.monotonic() - began_s)


def _append_to(buffer: bytearray) -> Sink:
    def append(data: bytes) -> None:
        buffer.extend(data[: OUTPUT_LIMIT_BYTES - len(buffer)])

    return append
