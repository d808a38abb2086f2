"""Every error the agent raises on purpose, and the exit code each ends in.

    AgentError (70)
    ├── SettingsError    (78)  what is configured cannot work; trying again changes nothing
    │   └── HostKeyError       the server shows another host key than the pinned one
    ├── TransientError   (75)  may heal by itself: retried, fatal only with --once
    └── RejectedError    (77)  a credential was refused; healed by another credential

A message says what failed, the value that was seen (never a secret's), and what to do next.
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
    """Base of all errors raised on purpose; `exit_code` is what the process ends with when it is fatal."""

    exit_code: ExitCode = ExitCode.BUG


class SettingsError(AgentError):
    """What is configured cannot work. Holds one line per problem, so that all are reported at once."""

    exit_code = ExitCode.UNUSABLE

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class HostKeyError(SettingsError):
    """No host key that the server shows is the pinned one."""


class TransientError(AgentError):
    """Something outside did not answer as it should; the same attempt may succeed later."""

    exit_code = ExitCode.GAVE_UP


class RejectedError(AgentError):
    """A credential was refused. The same attempt succeeds only with another credential."""

    exit_code = ExitCode.REFUSED
