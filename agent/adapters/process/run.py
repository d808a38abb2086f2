"""One door for subprocesses: `run` for a command that ends; `spawn` (child.py) for a child that stays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.adapters.process.child import Child, spawn
from agent.adapters.process.pump import Sink, describe_exit, pump, reap
from agent.adapters.process.spawn import CommandFailed, CommandNotFound, clean_environment, fork
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
]

OUTPUT_LIMIT_BYTES = 1 << 20
"""What `run` keeps of each output; the rest is read and dropped."""


@dataclass(frozen=True)
class Completed:
    """A command that ended well."""

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
    """Run a command to its end, with `input` on its standard input; `env` None is `clean_environment()`.

    What it left running in its process group is killed.
    Raises: CommandNotFound; CommandFailed for a code not in `ok_codes`, or after `timeout_s`;
    TransientError where no process can be started now.
    """
    began_s = time.monotonic()
    process = fork(argv, env, stdin=input is not None, stdout=True)
    stdout, stderr = bytearray(), bytearray()
    assert process.stdout is not None  # noqa: S101 - for the type checker: both were asked for
    assert process.stderr is not None  # noqa: S101
    sinks = {process.stdout: _kept(stdout), process.stderr: _kept(stderr)}
    try:
        in_time = pump(process, sinks, began_s + timeout_s, (input or "").encode())
    except OSError as error:
        raise TransientError(f"could not listen to {argv[0]}: {error}; tried again later") from error
    finally:
        code = reap(process)
    out, err = (text.decode(errors="replace") for text in (stdout, stderr))
    if not in_time:
        raise CommandFailed(argv, None, out, err, f"did not end within {timeout_s:g} s and was killed")
    if code is None or code not in ok_codes:
        raise CommandFailed(argv, code, out, err, describe_exit(code))
    return Completed(tuple(argv), code, out, err, time.monotonic() - began_s)


def _kept(buffer: bytearray) -> Sink:
    def keep(data: bytes) -> None:
        buffer.extend(data[: OUTPUT_LIMIT_BYTES - len(buffer)])

    return keep
