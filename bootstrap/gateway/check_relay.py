"""Check the relay that setup.sh --relay installed: it runs, its rules are in place, and nobody answers in its place."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from check_port import ADDRESS
from findings import FAILED, OK, SKIPPED, Finding, judged

METRICS = ("127.0.0.1", 9465)
_TIMEOUT_S = 5.0
_REFUSED_WITHIN_S = 1.0
_COMMAND_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Installation:
    """The relay's user, after whom everything is named, and the options it is started with."""

    user: str
    options: tuple[str, ...]

    @property
    def program(self) -> Path:
        return Path("/usr/local/lib") / self.user

    def option(self, name: str, default: str = "") -> str:
        """Return the value of an option."""
        return dict(zip(self.options[::2], self.options[1::2])).get(name, default)  # noqa: B905 - Python 3.9


def installed(user: str) -> Installation | None:
    """Return what setup.sh installed, or None if there is no relay on this host."""
    try:
        text = Path("/etc", user, "options").read_text(encoding="utf-8")
    except OSError:
        return None
    return Installation(user, tuple(text.partition("=")[2].strip().strip('"').split()))


def findings(relay: Installation) -> list[Finding]:
    return [_runs(relay), _rules(relay), _dial()]


def _runs(relay: Installation) -> Finding:
    connection = http.client.HTTPConnection(*METRICS, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except OSError as error:
        seen = f"does not answer at {METRICS[0]}:{METRICS[1]}: {error.strerror or error}"
        return Finding("relay", FAILED, f"{seen}{_unit_state(relay)}", _start(relay))
    finally:
        connection.close()
    return judged("relay", status == http.HTTPStatus.OK, f"answers {status}", _start(relay))


def _unit_state(relay: Installation) -> str:
    if not _by_systemd():
        return ""
    command = ["systemctl", "is-active", f"{relay.user}.service"]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"; {relay.user}.service is {state}"


def _start(relay: Installation) -> str:
    if _by_systemd():
        return (
            f"see 'journalctl -u {relay.user}' for the reason; start it with 'systemctl start {relay.user}'"
        )
    return f"let your service manager run {relay.program}/start, as root"


def _by_systemd() -> bool:
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def _rules(relay: Installation) -> Finding:
    """Ask the relay's own program, which knows its rules."""
    start = relay.program / "start"
    try:
        interpreter = start.read_text(encoding="utf-8").partition(f" -I {relay.program}")[0].split()[-1]
    except (OSError, IndexError):
        return Finding("relay-rules", FAILED, f"{start} is missing", "run setup.sh --relay again")
    command = [
        interpreter,
        "-I",
        str(relay.program),
        "relay",
        "--user",
        relay.user,
        *relay.options,
        "--check",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("relay-rules", FAILED, f"{interpreter}: {error}", "run setup.sh --relay again")
    seen = (done.stdout or done.stderr).strip().splitlines()
    return judged(
        "relay-rules",
        done.returncode == 0,
        "all in place" if done.returncode == 0 else seen[-1] if seen else f"exit code {done.returncode}",
        "restart the relay, which sets them, and find out what removes them (a firewall's restart, for example)",
    )


def _dial() -> Finding:
    """Dial a worker's address that nobody has: it must be refused at once, and by nobody else of this host."""
    shown = f"{ADDRESS}:6443, an address of no worker,"
    since_s = time.monotonic()
    try:
        with socket.create_connection((ADDRESS, 6443), timeout=_TIMEOUT_S):
            return Finding(
                "relay-dial",
                FAILED,
                f"{shown} is answered by another server of this host",
                "restart the relay: its rules are not in place, and this host's own k3s answers for workers",
            )
    except ConnectionRefusedError:
        took_s = time.monotonic() - since_s
        return judged(
            "relay-dial",
            took_s <= _REFUSED_WITHIN_S,
            f"{shown} is refused after {took_s * 1000:.0f} ms",
            "the gateway waits that long for each worker that is away: see the relay's metrics, and this host's load",
        )
    except socket.timeout:  # noqa: UP041 - Python 3.9
        return Finding(
            "relay-dial",
            FAILED,
            f"{shown} is not refused within {_TIMEOUT_S:g} s",
            "restart the relay; look for other firewall rules that drop packets to 127.64.0.0/10",
        )
    except OSError as error:
        return Finding(
            "relay-dial", FAILED, f"{shown}: {error.strerror}", "check the loopback interface (lo)"
        )


def port_findings(relay: Installation | None, findings: list[Finding]) -> list[Finding]:
    """With a relay, a listener on *:6443 is in the way of workers in the plain form only."""
    if relay is None:
        return findings
    return [
        Finding(each.name, SKIPPED, f"{each.seen}; workers on any port do without", "")
        if each.verdict != OK
        else each
        for each in findings
    ]
