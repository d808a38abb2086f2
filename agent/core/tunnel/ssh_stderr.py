"""What an OpenSSH child's stderr means. Its exit code says nothing: 255 for everything.

The texts are OpenSSH's own, recorded from a real client (tests/unit/data/ssh_stderr.json). The first row that
matches any of the last lines decides, so the rows go from the most telling to the least: a key file that
could not be loaded is followed by "Permission denied", and the file is the cause.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from agent.core.tunnel.faults import Fault, FaultKind

_Row = tuple[re.Pattern[str], FaultKind, str]


def _row(pattern: str, kind: FaultKind, fix: str) -> _Row:
    return re.compile(pattern, re.IGNORECASE), kind, fix


_ENDINGS: tuple[_Row, ...] = (
    _row(
        r"host key.* has changed|revoked host key|was revoked",
        FaultKind.HOST_KEY,
        "the gateway's host key differs from the pinned one: nothing was sent. If the server was set up anew, "
        "replace BETA9_SSH_KNOWN_HOSTS or BETA9_SSH_HOST_KEY_FINGERPRINT; else find out who answers there",
    ),
    _row(
        r"host key verification failed|no .* host key is known",
        FaultKind.HOST_KEY,
        "the gateway's host key is not among the pinned ones; put the server's line into BETA9_SSH_KNOWN_HOSTS "
        "or its fingerprint into BETA9_SSH_HOST_KEY_FINGERPRINT",
    ),
    _row(
        r"load key .*: |identity file .* not accessible|bad permissions",
        FaultKind.KEY_FILE,
        "ssh cannot use the private key; check BETA9_SSH_KEY or BETA9_SSH_KEY_FILE: it must be an unencrypted private "
        "key of a kind that this machine's ssh reads",
    ),
    _row(
        r"no user exists for uid",
        FaultKind.NO_SSH,
        "ssh needs a passwd entry for the user that it runs as; run as root, or add one",
    ),
    _row(
        r"permission denied \(|too many authentication failures",
        FaultKind.AUTH,
        "the gateway's sshd does not accept the key; put the line that 'beta9-worker authorize' prints into the "
        "tunnel user's authorized_keys, and check BETA9_SSH_USER",
    ),
    _row(
        r"remote port forwarding failed",
        FaultKind.BIND,
        "sshd refused the reverse address: it is taken (a dead session may still hold it), or the key's permitlisten "
        "does not name it; 'beta9-worker authorize' prints the line that does",
    ),
    _row(
        r"could not request local forwarding|cannot listen to port|unix_listener: cannot bind",
        FaultKind.LOCAL_PORT,
        "a local port or socket of the tunnel cannot be opened; stop what holds it or set another BETA9_GATEWAY_PORT",
    ),
    _row(
        r"subsystem request failed|channel 0: open failed",
        FaultKind.SESSION,
        "sshd refuses a session channel; the tunnel goes on without one, small writes through it are slower",
    ),
    _row(
        r"could not resolve hostname",
        FaultKind.DNS,
        "the SSH host's name cannot be resolved; check BETA9_SSH_HOST and this machine's DNS",
    ),
    _row(
        r"connect to host .*: connection refused",
        FaultKind.REFUSED,
        "nothing listens there; check BETA9_SSH_HOST and BETA9_SSH_PORT, and that sshd runs on the gateway's host",
    ),
    _row(
        r"connect to host .*: |timed out during banner exchange|connection to .* port \d+ timed out",
        FaultKind.UNREACHABLE,
        "the SSH host does not answer; check BETA9_SSH_HOST, BETA9_SSH_PORT and the way out of this machine",
    ),
    _row(
        r"no matching .* found",
        FaultKind.AUTH,
        "ssh and the gateway's sshd have no algorithm in common; update the older one",
    ),
    _row(
        r"bad configuration option|bad local forwarding|bad port|unsupported option|unknown option",
        FaultKind.NO_SSH,
        "this ssh client does not know an option that the tunnel needs; update it to OpenSSH 8.5 or later (8.0 is "
        "enough with BETA9_SSH_KNOWN_HOSTS)",
    ),
    _row(
        r"timeout, server .* not responding",
        FaultKind.LOST,
        "the gateway's host stopped answering; connecting again",
    ),
    _row(
        r"broken pipe|connection reset|closed by remote host|connection closed by|disconnected from|closed by",
        FaultKind.LOST,
        "the connection was cut; connecting again",
    ),
)

_COMPLAINTS: tuple[_Row, ...] = (
    _row(
        r"channel (?!0:)\d+: open failed: administratively prohibited",
        FaultKind.PERMIT_OPEN,
        "sshd does not let this key reach the target; its permitopen must name it: 'beta9-worker authorize' prints "
        "the line",
    ),
    _row(
        r"channel (?!0:)\d+: open failed: connect failed",
        FaultKind.TARGET,
        "sshd cannot reach the target on its side; check BETA9_SSH_TARGET and that the gateway runs",
    ),
)

_AT_A_JUMP_HOST = {
    FaultKind.HOST_KEY: "a jump host's key is not the pinned one: nothing was sent. BETA9_SSH_KNOWN_HOSTS or "
    "BETA9_SSH_HOST_KEY_FINGERPRINT must hold the keys of the hosts in BETA9_SSH_JUMP, too",
    FaultKind.AUTH: "a jump host does not accept the key; put its public half into authorized_keys there, and check "
    "the user in BETA9_SSH_JUMP",
    FaultKind.DNS: "a jump host's name cannot be resolved; check BETA9_SSH_JUMP and this machine's DNS",
    FaultKind.REFUSED: "nothing listens there; check BETA9_SSH_JUMP, and that sshd runs on that host",
    FaultKind.UNREACHABLE: "a jump host does not answer; check BETA9_SSH_JUMP and the way out of this machine",
}
"""What to do instead where ssh speaks of a jump host."""
_NOT_LED_ON = "stdio forwarding failed"
_JUMP_FORBIDS = (
    "a jump host does not let this key go on; sshd there must allow TCP forwarding, and the key's permitopen must name "
    "the next host of BETA9_SSH_JUMP, or BETA9_SSH_HOST, with its port"
)
_JUMP_REACHES_NOTHING = (
    "a jump host cannot reach the next one; check BETA9_SSH_HOST and BETA9_SSH_PORT, or the next host of "
    "BETA9_SSH_JUMP, as seen from there"
)

# What LogLevel VERBOSE and core/tunnel/host_key_pins.py add to every connection.
_CHATTER = re.compile(r"^(Transferred: sent|Bytes per second:|Authenticated to |beta9-host-key )")
_LOGGED_IN = re.compile(r"^Authenticated to ")


def fault_at_exit(lines: Collection[str], code: int | None, jumps: Collection[str] = ()) -> Fault:
    """Return why an ssh child ended, from the last lines of its stderr (oldest first) and its exit code.

    `jumps`: the names of the jump hosts, whose ssh processes write there, too.
    """
    telling = [line for line in lines if not _CHATTER.search(line)]
    if any(_NOT_LED_ON in line for line in telling):
        return _not_led_on(telling)
    instead = _AT_A_JUMP_HOST if _name_any(telling, jumps) else {}
    for pattern, kind, fix in _ENDINGS:
        for line in reversed(telling):
            if pattern.search(line):
                return Fault(kind, f"ssh: {_one_line(line)} ({instead.get(kind, fix)})")
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    last = f": {_one_line(telling[-1])}" if telling else ""
    return Fault(FaultKind.EXITED, f"ssh ended with {how}{last}; connecting again")


def _name_any(lines: Collection[str], hosts: Collection[str]) -> bool:
    names = [re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w.-])", re.IGNORECASE) for host in hosts]
    return any(name.search(line) for name in names for line in lines)


def _not_led_on(lines: Collection[str]) -> Fault:
    line = next((each for each in lines if "open failed" in each), _NOT_LED_ON)
    if "administratively prohibited" in line:
        return Fault(FaultKind.PERMIT_OPEN, f"ssh: {_one_line(line)} ({_JUMP_FORBIDS})")
    return Fault(FaultKind.UNREACHABLE, f"ssh: {_one_line(line)} ({_JUMP_REACHES_NOTHING})")


def complaint(line: str) -> Fault | None:
    """Return the complaint of a running child, if the line is one."""
    for pattern, kind, fix in _COMPLAINTS:
        if pattern.search(line):
            return Fault(kind, f"ssh: {_one_line(line)} ({fix})")
    return None


def logged_in(line: str) -> bool:
    """Return whether the line says that the server accepted the login (printed at LogLevel VERBOSE)."""
    return _LOGGED_IN.match(line) is not None


def _one_line(line: str) -> str:
    """Return the line without control characters (a server can send any), cut to 200 characters."""
    return "".join(character if character.isprintable() else " " for character in line).strip()[:200]
