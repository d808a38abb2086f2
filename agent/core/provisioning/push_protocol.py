"""The protocol that delivers secrets to a machine over ssh: command line, input, and meaning of the output.

Secrets travel on standard input, one line each. Command lines, here and on the machine, contain only names.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.tunnel import host_key_pins, ssh_stderr
from agent.core.tunnel.faults import FaultKind
from agent.core.tunnel.host_key_pins import ShownKey
from agent.errors import AgentError, HostKeyError, RejectedError, SettingsError, TransientError

DIRECTORY = "/etc/beta9-worker/secrets"
CONNECT_TIMEOUT_S = 10

# POSIX sh, run as root. A line is base64 and a final dot; without the dot, it was truncated. `printf` is a shell
# builtin, so no secret appears in the process list. Files are renamed into place, so none is ever half written.
_REMOTE = """\
set -eu
umask 077
directory={directory}
mkdir -p "$directory"
chmod 0700 "$directory"
put() {{
  IFS= read -r line || line=
  case $line in *.) ;; *) echo "truncated in transit" >&2; exit 65 ;; esac
  rm -f "$directory/.$1.new"
  printf %s "${{line%.}}" | base64 -d >"$directory/.$1.new"
  if cmp -s "$directory/.$1.new" "$directory/$1"; then
    rm -f "$directory/.$1.new"
    chmod 0600 "$directory/$1"
    echo "beta9 same $1"
  else
    sync "$directory/.$1.new"
    mv -f "$directory/.$1.new" "$directory/$1"
    echo "beta9 new $1"
  fi
}}
"""
_DONE = frozenset({"new", "same"})
_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec sh -c {script}; else exec sudo -n -- sh -c {script}; fi'


@dataclass(frozen=True)
class Target:
    """The machine, and how to verify its host key. `user` None: ssh's own choice."""

    host: str
    user: str | None = None
    port: int = 22
    identity: str | None = None
    known_hosts: str | None = None
    """None: the user's own known_hosts file."""
    fingerprints: tuple[str, ...] = ()
    """Instead of it: the fingerprints that the host key may have."""


@dataclass(frozen=True)
class Failure:
    """A failed attempt. `patience_s`: for how long it is worth trying again, in seconds."""

    text: str
    patience_s: float
    error: type[AgentError] = TransientError
    """What to raise after that."""


def argv(target: Target, command: str, refused: Sequence[ShownKey] = ()) -> tuple[str, ...]:
    """Return the ssh command line: with the user's configuration (jump hosts, agent), but without prompts.

    `refused`: host keys that the machine has shown and that are not pinned; another type is asked for.
    """
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        f"ConnectTimeout={CONNECT_TIMEOUT_S}",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
    ]
    if target.known_hosts is not None:
        options += [f'UserKnownHostsFile="{target.known_hosts}"', "GlobalKnownHostsFile=/dev/null"]
    if target.fingerprints:
        pins = host_key_pins.options(target.fingerprints, refused)
        options += [*(f"{name}={value}" for name, value in pins.items()), "GlobalKnownHostsFile=/dev/null"]
    identity = ["-i", target.identity, "-o", "IdentitiesOnly=yes"] if target.identity else []
    user = ["-l", target.user] if target.user else []
    flags = [part for option in options for part in ("-o", option)]
    return ("ssh", "-T", "-p", str(target.port), *user, *identity, *flags, "--", target.host, command)


def remote_command(names: Sequence[str], directory: str = DIRECTORY) -> str:
    """Return the command for the machine's login shell."""
    script = _REMOTE.format(directory=shlex.quote(directory)) + "".join(f"put {name}\n" for name in names)
    return f"sh -c {shlex.quote(_AS_ROOT.format(script=shlex.quote(script)))}"


def payload(secrets: Mapping[str, str]) -> str:
    """Return the text for standard input, in the order of `secrets`."""
    return "".join(f"{base64.b64encode(text.encode()).decode()}.\n" for text in secrets.values())


def outcome(stdout: str) -> dict[str, str]:
    """Return `new` or `same` by name. Ignores what else a login shell prints."""
    words = [line.split() for line in stdout.splitlines()]
    return {word[2]: word[1] for word in words if len(word) == 3 and word[0] == "beta9" and word[1] in _DONE}


def failure(target: Target, stderr: str, code: int | None) -> Failure:
    """Interpret a failed ssh. Exit code 255 is ssh's own failure, others are the command's; None: it was killed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    how = "it did not finish in time" if code is None else f"exit code {code}"
    last_line = "".join(c if c.isprintable() else " " for c in lines[-1])[:200] if lines else how
    if code != 255 and code is not None:
        return Failure(
            f"{target.host} did not store the secrets ({last_line}); {_storing_advice(lines)}",
            0,
            SettingsError,
        )
    kind = ssh_stderr.fault_at_exit(lines, code).kind
    advice, patience_s, error = _ADVICE.get(kind, _BOOTING)
    return Failure(f"cannot reach {target.host} ({last_line}); {advice}", patience_s, error)


def wrong_host_key(target: Target, shown: Sequence[ShownKey]) -> Failure:
    """Return the failure of a machine that has shown all its host keys, and none of them is pinned."""
    seen, wanted = ", ".join(key.fingerprint for key in shown), ",".join(target.fingerprints)
    return Failure(
        f"{target.host} shows the host key {seen}, not {wanted}: nothing was sent; take the fingerprint from the"
        " cloud's console log, or find out which machine answers at this address",
        0,
        HostKeyError,
    )


def _storing_advice(lines: Sequence[str]) -> str:
    if any("sudo" in line for line in lines):
        return "log in as root, or as a user who may run 'sudo -n' without a password"
    return "check the disk and the directory on that machine"


_ADVICE: Mapping[FaultKind, tuple[str, float, type[AgentError]]] = {
    FaultKind.HOST_KEY: (
        "its host key is unknown, so nothing was sent: take the fingerprint from the cloud's console log and"
        " pass it with --fingerprint, or pass a known_hosts file with --known-hosts",
        0,
        HostKeyError,
    ),
    FaultKind.KEY_FILE: ("the key cannot be used: give another with --identity", 0, SettingsError),
    FaultKind.NO_SSH: ("ssh does not work on this machine: see its message", 0, SettingsError),
    FaultKind.AUTH: (
        "it rejects this user or key: give the image's user (ubuntu, debian, root), and the key with"
        " --identity; a key with a passphrase must be in ssh-agent",
        60,
        RejectedError,
    ),
    FaultKind.DNS: ("the name cannot be resolved: check it", 60, TransientError),
}
"""By kind: what to do, for how many seconds it may still change while the machine boots, and what to raise then."""
_BOOTING = ("is it running, and does its firewall allow ssh?", float("inf"), TransientError)
