"""Check that sshd's configuration for the tunnel-only user permits what a worker needs, and no more."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from pathlib import Path

from findings import FAILED, OK, SKIPPED, WARNING, Finding, judged
from sshd_settings import Settings, one

DROP_IN = "install 50-beta9-tunnel.conf (setup.sh does)"
SAMPLES = ("127.64.0.1", "127.95.128.7", "127.127.255.254")
"""Addresses from both ends and the middle of 127.64.0.0/10, where workers listen on port 6443."""
DEAD_PEER_S = 12
"""Time in seconds after which the session of a dead worker should have lost its listener."""


def findings(version: str, settings: Settings) -> list[Finding]:
    """Check the version and every relevant option."""
    return [_version(version), *(rule(settings) for rule in _RULES)]


def _version(name: str) -> Finding:
    match = re.search(r"(\d+)\.(\d+)", name)
    if not match:
        return Finding("openssh-version", SKIPPED, "sshd -V shows no version")
    number = (int(match[1]), int(match[2]))
    if number < (7, 8):
        return Finding("openssh-version", FAILED, name, "PermitListen requires OpenSSH 7.8: upgrade")
    if (9, 2) <= number <= (9, 4):
        return Finding(
            "openssh-version",
            WARNING,
            f"{name}: probes dead clients half as often as configured (3 x 2: a dead session ends after 14 s, not 9)",
            "upgrade to 9.5 or later, or set ClientAliveCountMax 1 for the tunnel user (8 s)",
        )
    return Finding("openssh-version", OK, name)


Rule = Callable[[Settings], Finding]


def _is(name: str, option: str, good: str, fix: str, otherwise: str = FAILED) -> Rule:
    """Return a rule: the option's value must match the regular expression `good`."""

    def rule(settings: Settings) -> Finding:
        value = one(settings, option.lower(), "(unknown to this sshd)")
        return judged(name, re.fullmatch(good, value) is not None, f"{option} {value}", fix, otherwise)

    return rule


def _permit_listen(settings: Settings) -> Finding:
    value = one(settings, "permitlisten", "any")
    patterns = value.split()
    covered = value == "any" or all(
        any(fnmatch.fnmatchcase(f"{address}:6443", pattern) for pattern in patterns) for address in SAMPLES
    )
    if value == "any":
        fix = f"{DROP_IN}: a key line without permitlisten could listen on any port of this host"
        return Finding("permit-listen", WARNING, "PermitListen any", fix)
    seen = value if len(value) < 60 else f"{len(patterns)} patterns, {patterns[0]} to {patterns[-1]}"
    return judged(
        "permit-listen", covered, f"PermitListen {seen}", f"{DROP_IN}: 127.64.* to 127.127.*, port 6443"
    )


def _dead_peer(settings: Settings) -> Finding:
    interval, count = (
        int(one(settings, "clientaliveinterval", "0")),
        int(one(settings, "clientalivecountmax", "3")),
    )
    seen = f"ClientAliveInterval {interval}, ClientAliveCountMax {count}: "
    ends_s = interval * (count + 1)
    never = interval == 0 or count == 0
    seen += "a dead session is never ended" if never else f"a dead session is ended after {ends_s} s"
    fix = f"{DROP_IN}: ClientAliveInterval 3, ClientAliveCountMax 2; until then a dead worker's k3s stalls its pool"
    return judged("dead-peer", not never and ends_s <= DEAD_PEER_S, seen, fix)


def _session(settings: Settings) -> Finding:
    sessions, command = int(one(settings, "maxsessions", "10")), one(settings, "forcecommand", "none")
    subsystem = any(value.split()[:1] == ["sftp"] for value in settings.get("subsystem", []))
    seen = f"MaxSessions {sessions}, ForceCommand {command}, sftp {'enabled' if subsystem else 'missing'}"
    if sessions == 0 or not subsystem:
        fix = "set MaxSessions 10 and Subsystem sftp internal-sftp: without a session small writes take 40 ms each"
        return Finding("session", WARNING, seen, fix)
    fix = f"{DROP_IN}: ForceCommand internal-sftp -R -p realpath"
    return judged("session", command.startswith("internal-sftp"), seen, fix, otherwise=WARNING)


def _max_startups(settings: Settings) -> Finding:
    value = one(settings, "maxstartups")
    fix = f"{DROP_IN}: MaxStartups 100:30:300; workers that reconnect together are rejected at random"
    return judged(
        "max-startups", int(value.split(":")[0]) >= 50, f"MaxStartups {value}", fix, otherwise=WARNING
    )


_DISABLED = (
    "AllowStreamLocalForwarding",
    "AllowAgentForwarding",
    "X11Forwarding",
    "PermitTunnel",
    "PermitTTY",
)


def _restrictions(settings: Settings) -> Finding:
    still_open = [
        f"{name} {one(settings, name.lower())}" for name in _DISABLED if one(settings, name.lower()) != "no"
    ]
    fix = f"{DROP_IN}; key lines that begin with 'restrict' disable most of these as well"
    return judged(
        "restrictions", not still_open, ", ".join(still_open) or "all disabled", fix, otherwise=WARNING
    )


def _chroot(settings: Settings) -> Finding:
    chroot = one(settings, "chrootdirectory", "none")
    if chroot == "none" or "%" in chroot:
        return Finding("chroot", OK, f"ChrootDirectory {chroot}")
    for path in (Path(chroot), *Path(chroot).parents):
        try:
            status = path.stat()
        except OSError as error:
            return Finding(
                "chroot",
                FAILED,
                f"{path}: {error.strerror}",
                "run setup.sh; until then sshd ends every session",
            )
        if status.st_uid != 0 or status.st_mode & 0o022:
            fix = f"chown root:root {path} && chmod go-w {path}; until then sshd ends every session"
            return Finding("chroot", FAILED, f"{path} is writable by users other than root", fix)
    return Finding("chroot", OK, f"ChrootDirectory {chroot}, owned by root")


_RULES: tuple[Rule, ...] = (
    _is("pubkey", "PubkeyAuthentication", "yes", f"{DROP_IN}: PubkeyAuthentication yes"),
    _is("methods", "AuthenticationMethods", "any|publickey", f"{DROP_IN}: a key alone must be sufficient"),
    _is(
        "tcp-forwarding",
        "AllowTcpForwarding",
        "yes|all",
        f"{DROP_IN}: the tunnel needs forwards both ways",
    ),
    _is(
        "disable-forwarding",
        "DisableForwarding",
        "no",
        "remove DisableForwarding: it overrides all else",
    ),
    _is(
        "gateway-ports",
        "GatewayPorts",
        "clientspecified",
        f"{DROP_IN}: GatewayPorts clientspecified. With 'no', sshd silently binds 127.0.0.1 and one machine"
        " answers for another; with 'yes', every machine's k3s is open to the network",
    ),
    _permit_listen,
    _dead_peer,
    _session,
    _max_startups,
    _restrictions,
    _chroot,
)
