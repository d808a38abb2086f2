"""Deliver secrets to a machine over OpenSSH, and wait for one that is still booting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from agent.adapters.process.run import CommandFailed, run
from agent.core.provisioning import push_protocol
from agent.core.provisioning.push_protocol import Failure, Target
from agent.core.tunnel import host_key_pins
from agent.core.tunnel.host_key_pins import ShownKey
from agent.errors import ExitCode

ATTEMPT_S = 60.0
"""Limit for one ssh command, including login and writing."""
PAUSE_S = 5.0
"""Between attempts: sshd blocks clients that fail to log in too often."""


def push_secrets(  # noqa: PLR0913 - the caller has to choose all of them
    target: Target,
    secrets: Mapping[str, str],
    directory: str,
    *,
    wait_s: float,
    report: Callable[[str], object],
    pause_s: float = PAUSE_S,
) -> dict[str, str]:
    """Write the secrets, by name, into the machine's directory; return `new` or `same` for each.

    Args:
        report: called with the reason for waiting, once per reason.

    Raises: HostKeyError; RejectedError if the login is refused; SettingsError if the machine cannot store them;
    TransientError if it did not take them within `wait_s`.
    """
    command = push_protocol.remote_command(list(secrets), directory)
    began_s, since_s, last_reason = time.monotonic(), time.monotonic(), ""
    while True:
        result = _attempt(target, command, push_protocol.payload(secrets))
        if not isinstance(result, Failure):
            if set(result) == set(secrets):
                return result
            result = Failure(f"{target.host} did not confirm that it wrote them; check {directory} on it", 0)
        now_s = time.monotonic()
        if result.text != last_reason:
            last_reason, since_s = result.text, now_s
        left_s = min(began_s + wait_s, since_s + result.patience_s) - now_s
        if left_s <= 0:
            raise result.error(result.text)
        if since_s == now_s:
            report(f"waiting: {result.text}")
        threading.Event().wait(min(pause_s, left_s))


def _attempt(target: Target, command: str, payload: str) -> dict[str, str] | Failure:
    refused: tuple[ShownKey, ...] = ()
    while True:
        try:
            done = run(push_protocol.argv(target, command, refused), ATTEMPT_S, input=payload)
        except CommandFailed as error:
            if error.exit_code is ExitCode.UNUSABLE:  # there is no ssh on this machine
                raise
            lines = error.stderr.splitlines()
            shown = host_key_pins.with_shown(refused, lines)
            if shown != refused:  # ask for a host key of another type
                refused = shown
                continue
            if refused and host_key_pins.has_no_other_type(lines):
                return push_protocol.wrong_host_key(target, refused)
            return push_protocol.failure(target, error.stderr, error.code)
        return push_protocol.outcome(done.stdout)
