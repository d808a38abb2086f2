"""Deliver secrets to a machine over OpenSSH, and wait for one that is still booting."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from agent.adapters.process.run import CommandFailed, run
from agent.adapters.ssh.host_keys import Scan, scan
from agent.core.provisioning import push_protocol
from agent.core.provisioning.push_protocol import Failure, Target
from agent.errors import ExitCode, HostKeyError, TransientError

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
    try:
        done = run(push_protocol.argv(target, command), ATTEMPT_S, input=payload)
    except CommandFailed as error:
        if error.exit_code is ExitCode.UNUSABLE:  # there is no ssh on this machine
            raise
        return push_protocol.failure(target, error.stderr, error.code)
    return push_protocol.outcome(done.stdout)


@contextlib.contextmanager
def proven(target: Target, expected: str, wait_s: float, report: Callable[[str], object]) -> Iterator[Target]:
    """Yield the target with its host key pinned, after checking it against fingerprints (comma-separated).

    Raises: HostKeyError if it shows another key; TransientError if it shows none within `wait_s`.
    """
    wanted = expected.split(",")
    host_keys = _scan(target, wanted, wait_s, report)
    keys = host_keys.proven(wanted)
    if not keys:
        shown = ", ".join(host_keys.fingerprints.values())
        raise HostKeyError(
            f"{target.host} shows the host key {shown}, not {expected}: nothing was sent; take the fingerprint from the"
            " cloud's console log, or find out which machine answers at this address"
        )
    with tempfile.TemporaryDirectory(prefix="beta9-") as directory:
        path = Path(directory) / "known_hosts"
        path.write_text(
            "".join(f"{push_protocol.KNOWN_AS} {kind} {key}\n" for kind, key in keys), encoding="utf-8"
        )
        yield replace(target, known_hosts=str(path), alias=True)


def _scan(target: Target, wanted: list[str], wait_s: float, report: Callable[[str], object]) -> Scan:
    began_s, last_reason = time.monotonic(), ""
    while True:
        result = scan(target.host, target.port, wanted)
        if result.proven(wanted) or (result.keys and result.whole):
            return result
        shown = "only some of its host keys so far" if result.keys else "no host key so far"
        reason = f"{target.host} port {target.port} shows {shown}"
        if time.monotonic() - began_s >= wait_s:
            raise TransientError(f"{reason}: is it running, and does its firewall allow ssh?")
        if reason != last_reason:
            report(f"waiting: {reason}")
            last_reason = reason
        threading.Event().wait(PAUSE_S)
