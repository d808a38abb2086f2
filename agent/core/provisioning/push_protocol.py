"""What is said to a machine that is given its secrets, and what its answers mean.

Contents go over standard input, a line each; command lines hold names only, here and there.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.tunnel import ssh_stderr
from agent.core.tunnel.faults import FaultKind
from agent.errors import AgentError, HostKeyError, RejectedError, SettingsError, TransientError

KNOWN_AS = "beta9-machine"
"""The name under which a key that was proven by its fingerprint is known to ssh."""
WHERE = "/etc/beta9-worker/secrets"
CONNECT_TIMEOUT_S = 10

# POSIX sh, as root. A line is base64 and a point: without the point it was cut off. `printf` is the shell's own, so
# nothing of it shows in the list of processes. The old file or the new one is there at any moment, never half of one.
_REMOTE = """\
set -eu
umask 077
where={where}
mkdir -p "$where"
chmod 0700 "$where"
put() {{
  IFS= read -r line || line=
  case $line in *.) ;; *) echo "cut off on the way" >&2; exit 65 ;; esac
  rm -f "$where/.$1.new"
  printf %s "${{line%.}}" | base64 -d >"$where/.$1.new"
  if cmp -s "$where/.$1.new" "$where/$1"; then
    rm -f "$where/.$1.new"
    chmod 0600 "$where/$1"
    echo "beta9 same $1"
  else
    sync "$where/.$1.new"
    mv -f "$where/.$1.new" "$where/$1"
    echo "beta9 new $1"
  fi
}}
"""
_DONE = frozenset({"new", "same"})
_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec sh -c {script}; else exec sudo -n -- sh -c {script}; fi'


@dataclass(frozen=True)
class Target:
    """The machine, and what proves that it is the one. `user` None: whoever ssh takes."""

    host: str
    user: str | None = None
    port: int = 22
    identity: str | None = None
    known_hosts: str | None = None
    """None: the user's own known_hosts file."""
    alias: bool = False
    """The key stands in `known_hosts` under KNOWN_AS."""


@dataclass(frozen=True)
class Failure:
    """An attempt that did not succeed. `patience_s` is how long such failures may still pass by themselves."""

    text: str
    patience_s: float
    error: type[AgentError] = TransientError
    """What it is, once patience has run out."""


def argv(target: Target, command: str) -> tuple[str, ...]:
    """ssh with a person's own configuration (jump hosts, agent), less what would ask or trust on first use."""
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
    if target.alias:
        options.append(f"HostKeyAlias={KNOWN_AS}")
    identity = ["-i", target.identity, "-o", "IdentitiesOnly=yes"] if target.identity else []
    user = ["-l", target.user] if target.user else []
    told = [part for option in options for part in ("-o", option)]
    return ("ssh", "-T", "-p", str(target.port), *user, *identity, *told, "--", target.host, command)


def remote_command(names: Sequence[str], where: str = WHERE) -> str:
    """What the login shell over there is given."""
    script = _REMOTE.format(where=shlex.quote(where)) + "".join(f"put {name}\n" for name in names)
    return f"sh -c {shlex.quote(_AS_ROOT.format(script=shlex.quote(script)))}"


def payload(secrets: Mapping[str, str]) -> str:
    """What goes over standard input, in the order of `secrets`."""
    return "".join(f"{base64.b64encode(text.encode()).decode()}.\n" for text in secrets.values())


def outcome(stdout: str) -> dict[str, str]:
    """By name, `new` or `same`; a login shell may say other things around it."""
    words = [line.split() for line in stdout.splitlines()]
    return {word[2]: word[1] for word in words if len(word) == 3 and word[0] == "beta9" and word[1] in _DONE}


def failure(target: Target, stderr: str, code: int | None) -> Failure:
    """What an ended ssh means. Its code is 255 for everything that is ssh's own, else the command's; None: killed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    how = "it did not end in time" if code is None else f"exit code {code}"
    said = "".join(c if c.isprintable() else " " for c in lines[-1])[:200] if lines else how
    if code != 255 and code is not None:
        return Failure(f"{target.host} took no secrets ({said}); {_why_refused(lines)}", 0, SettingsError)
    kind = ssh_stderr.fault_at_exit(lines, code).kind
    advice, patience_s, error = _ADVICE.get(kind, _COMING)
    return Failure(f"{target.host} was not reached ({said}); {advice}", patience_s, error)


def _why_refused(lines: Sequence[str]) -> str:
    if any("sudo" in line for line in lines):
        return "its user must be root, or be allowed 'sudo -n' without a password"
    return "look at the disk and at the directory over there"


_ADVICE: Mapping[FaultKind, tuple[str, float, type[AgentError]]] = {
    FaultKind.HOST_KEY: (
        "its host key is not a known one and nothing was sent: take the fingerprint from the cloud's console log and"
        " give it by --fingerprint, or its line by --known-hosts",
        0,
        HostKeyError,
    ),
    FaultKind.KEY_FILE: ("the key cannot be used: give another by --identity", 0, SettingsError),
    FaultKind.NO_SSH: ("ssh does not work here: see what it says", 0, SettingsError),
    FaultKind.AUTH: (
        "it does not let this user in with this key: name the image's user (ubuntu, debian, root), and the key by"
        " --identity; a key with a passphrase has to be in ssh-agent",
        60,
        RejectedError,
    ),
    FaultKind.DNS: ("its name is not known: check it", 60, TransientError),
}
"""What to do; how long it may still change while a machine boots, in seconds; and what it is if it does not."""
_COMING = ("is it up, and does its firewall let ssh in?", float("inf"), TransientError)
