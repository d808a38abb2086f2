"""All errors that the agent raises on purpose, each with its exit code.

    AgentError (70)
    ├── SettingsError    (78)  the configuration cannot work; a retry changes nothing
    │   └── HostKeyError       the server's host key is not the pinned one
    ├── TransientError   (75)  may resolve by itself: retried, fatal only with --once
    └── RejectedError    (77)  a credential was refused; another credential is needed

A message says what failed, which value was seen (never a secret), and what to do next.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes. The numbers are sysexits.h's (EX_SOFTWARE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG)."""

    OK = 0
    FAILED_CHECK = 1
    BUG = 70
    GAVE_UP = 75
    REFUSED = 77
    UNUSABLE = 78


class AgentError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the process's exit code if the error is fatal."""

    exit_code: ExitCode = ExitCode.BUG


class SettingsError(AgentError):
    """The configuration cannot work. Has one line per problem, so that all are reported together."""

    exit_code = ExitCode.UNUSABLE

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class HostKeyError(SettingsError):
    """None of the server's host keys is the pinned one."""


class TransientError(AgentError):
    """Something outside the agent failed; the same attempt may succeed later."""

    exit_code = ExitCode.GAVE_UP


class RejectedError(AgentError):
    """A credential was refused. A retry needs another credential."""

    exit_code = ExitCode.REFUSED
