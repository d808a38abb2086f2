"""Brings secrets to a machine over OpenSSH, waiting for one that is still booting."""

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
"""For one ssh, login and writing included."""
PAUSE_S = 5.0
"""Between attempts: sshd shuts out who fails to log in too often."""


def push_secrets(  # noqa: PLR0913 - all of them said by whoever calls
    target: Target,
    secrets: Mapping[str, str],
    where: str,
    *,
    wait_s: float,
    said: Callable[[str], object],
    pause_s: float = PAUSE_S,
) -> dict[str, str]:
    """Write the secrets there, by name; return `new` or `same` for each.

    `said` hears why it still waits, once for each reason.
    Raises: HostKeyError; RejectedError where it does not let us in; SettingsError where it will never take them as
    things are; TransientError when it did not within `wait_s`.
    """
    command = push_protocol.remote_command(list(secrets), where)
    began_s, since_s, last = time.monotonic(), time.monotonic(), ""
    while True:
        result = _attempt(target, command, push_protocol.payload(secrets))
        if not isinstance(result, Failure):
            if set(result) == set(secrets):
                return result
            result = Failure(f"{target.host} did not say that it wrote them; look there at {where}", 0)
        now_s = time.monotonic()
        if result.text != last:
            last, since_s = result.text, now_s
        left_s = min(began_s + wait_s, since_s + result.patience_s) - now_s
        if left_s <= 0:
            raise result.error(result.text)
        if since_s == now_s:
            said(f"waiting: {result.text}")
        threading.Event().wait(min(pause_s, left_s))


def _attempt(target: Target, command: str, payload: str) -> dict[str, str] | Failure:
    try:
        done = run(push_protocol.argv(target, command), ATTEMPT_S, input=payload)
    except CommandFailed as error:
        if error.exit_code is ExitCode.UNUSABLE:  # no ssh at all
            raise
        return push_protocol.failure(target, error.stderr, error.code)
    return push_protocol.outcome(done.stdout)


@contextlib.contextmanager
def proven(target: Target, expected: str, wait_s: float, said: Callable[[str], object]) -> Iterator[Target]:
    """The same target, with the host key that has one of the expected fingerprints (comma-separated).

    Raises: HostKeyError where it shows another; TransientError where it shows none within `wait_s`.
    """
    wanted = expected.split(",")
    seen = _seen(target, wanted, wait_s, said)
    good = seen.proven(wanted)
    if not good:
        shown = ", ".join(seen.fingerprints.values())
        raise HostKeyError(
            f"{target.host} shows the host key {shown}, not {expected}: nothing was sent; take the fingerprint from the"
            " cloud's console log, or find out who answers there"
        )
    with tempfile.TemporaryDirectory(prefix="beta9-") as directory:
        path = Path(directory) / "known_hosts"
        path.write_text(
            "".join(f"{push_protocol.KNOWN_AS} {kind} {key}\n" for kind, key in good), encoding="utf-8"
        )
        yield replace(target, known_hosts=str(path), alias=True)


def _seen(target: Target, wanted: list[str], wait_s: float, said: Callable[[str], object]) -> Scan:
    began_s, last = time.monotonic(), ""
    where = f"{target.host} port {target.port}"
    while True:
        seen = scan(target.host, target.port, wanted)
        if seen.proven(wanted) or (seen.keys and seen.whole):
            return seen
        shown = "only some of its host keys so far" if seen.keys else "no host key so far"
        now = f"{where} shows {shown}"
        if time.monotonic() - began_s >= wait_s:
            raise TransientError(f"{now}: is it up, and does its firewall let ssh in?")
        if now != last:
            said(f"waiting: {now}")
            last = now
        threading.Event().wait(PAUSE_S)
