"""Check that sshd's configuration for the tunnel-only user permits what a worker needs, and no more."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

from findings import FAILED, OK, SKIPPED, WARNING, Finding, judged
from sshd_settings import Settings, numbers, one

DROP_IN = "install 50-beta9-tunnel.conf (setup.sh does)"
SAMPLES = ("127.64.0.1", "127.95.128.7", "127.127.255.254")
"""Addresses from both ends and the middle of 127.64.0.0/10, where workers listen."""
K3S_PORT, SOCKS_PORT = 6443, 1080
"""Where workers listen in the plain form, and beside a relay."""
DEAD_PEER_S = 12
"""Time in seconds after which the session of a dead worker should have lost its listener."""
STALLED_S = 30
"""From then on the stall ends the work of other machines: workers are given up after 45 to 60 s."""
PROBES_HALF = (9, 2), (9, 4)
"""These versions send ClientAlive probes half as often as configured: measured with 9.2, and read in their source."""
SHUT_OUT_S = 120
"""How long an address may be shut out: well within a machine's lease of 300 s."""
BEHIND_ONE_ADDRESS = 50
"""So many workers may share one address, and reconnect at once."""


def findings(version: str, settings: Settings, address: str, *, relay: bool = False) -> list[Finding]:
    """Check the version and every relevant option, for workers that come from `address`; with a relay, or without."""
    rules = [_version(version), *(rule(settings) for rule in _RULES), _permit_listen(settings, relay)]
    return [*rules, _dead_peer(version, settings), _penalties(settings, address)]


def _version(name: str) -> Finding:
    number = numbers(name)
    if number == (0, 0):
        return Finding("openssh-version", SKIPPED, "sshd -V shows no version")
    fix = "PermitListen requires OpenSSH 7.8: upgrade"
    return judged("openssh-version", number >= (7, 8), name, fix)


Rule = Callable[[Settings], Finding]


def _is(name: str, option: str, good: str, fix: str, otherwise: str = FAILED) -> Rule:
    """Return a rule: the option's value must match the regular expression `good`."""

    def rule(settings: Settings) -> Finding:
        value = one(settings, option.lower(), "(unknown to this sshd)")
        return judged(name, re.fullmatch(good, value) is not None, f"{option} {value}", fix, otherwise)

    return rule


def _permit_listen(settings: Settings, relay: bool) -> Finding:
    value = one(settings, "permitlisten", "any")
    patterns = value.split()
    covered = value == "any" or all(
        any(fnmatch.fnmatchcase(f"{address}:{port}", pattern) for pattern in patterns)
        for address in SAMPLES
        for port in (K3S_PORT, *([SOCKS_PORT] if relay else []))
    )
    if value == "any":
        fix = f"{DROP_IN}: a key line without permitlisten could listen on any port of this host"
        return Finding("permit-listen", WARNING, "PermitListen any", fix)
    seen = value if len(value) < 60 else f"{len(patterns)} patterns, {patterns[0]} to {patterns[-1]}"
    return judged(
        "permit-listen",
        covered,
        f"PermitListen {seen}",
        f"{DROP_IN}: 127.64.* to 127.127.*, ports 6443 and 1080; run setup.sh again",
    )


def _dead_peer(version: str, settings: Settings) -> Finding:
    interval, count = (
        int(one(settings, "clientaliveinterval", "0")),
        int(one(settings, "clientalivecountmax", "3")),
    )
    seen = f"ClientAliveInterval {interval}, ClientAliveCountMax {count}: "
    half = PROBES_HALF[0] <= numbers(version) <= PROBES_HALF[1]
    ends_s = interval * (count + 1) * (2 if half else 1)
    never = interval == 0 or count == 0
    seen += "a dead session is never ended" if never else f"a dead session is ended after {ends_s} s"
    if half and not never:
        seen += " (OpenSSH 9.2 to 9.4 probe half as often as configured)"
    wanted = f"ClientAliveInterval 3, ClientAliveCountMax {1 if half else 2}"
    fix = f"{DROP_IN}: {wanted}; until then a dead worker's k3s stalls its pool"
    good = not never and ends_s <= DEAD_PEER_S
    return judged("dead-peer", good, seen, fix, FAILED if never or ends_s > STALLED_S else WARNING)


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
    value, each = one(settings, "maxstartups"), one(settings, "persourcemaxstartups", "none")
    fix = f"{DROP_IN}: MaxStartups 100:30:300, PerSourceMaxStartups 100; workers that reconnect together are rejected"
    enough = min(int(value.split(":")[0]), int(each) if each.isdigit() else 10**9) >= BEHIND_ONE_ADDRESS
    seen = f"MaxStartups {value}, PerSourceMaxStartups {each}"
    return judged("max-startups", enough, seen, fix, otherwise=WARNING)


def _penalties(settings: Settings, address: str) -> Finding:
    """Check how soon sshd shuts out an address, which many workers may share (OpenSSH 9.8 or later)."""
    value = one(settings, "persourcepenalties", "no")
    if value == "no":
        return Finding("penalties", OK, "this sshd has none")
    exempt = one(settings, "persourcepenaltyexemptlist", "none")
    if exempt != "none" and _is_in(address, exempt):
        return Finding("penalties", OK, f"{address} is exempt ({exempt})")
    parts = dict(part.split(":", 1) for part in value.split() if ":" in part)
    least_s, most_s, each_s, refused_s = (
        float(parts.get(name, 0)) for name in ("min", "max", "noauth", "authfail")
    )
    seen = (
        f"an address is shut out after {least_s:g} s of penalties, for at most {most_s:g} s ({each_s:g} s for a"
        f" connection without login, {refused_s:g} s for a refused one); exempt: {exempt}"
    )
    fix = (
        f"{DROP_IN}: PerSourcePenalties min:60 max:90. Machines behind a NAT share an address, which"
        " setup.sh --exempt ADDRESS exempts; --from ADDRESS checks that"
    )
    good = least_s >= BEHIND_ONE_ADDRESS * each_s and most_s <= SHUT_OUT_S
    return judged("penalties", good, seen, fix, otherwise=WARNING)


def _is_in(address: str, networks: str) -> bool:
    """Return whether a list as sshd has it, of addresses and networks, names this address."""
    try:
        return any(ip_address(address) in ip_network(each, strict=False) for each in networks.split(","))
    except ValueError:  # a negated entry or a pattern
        return False


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
    _session,
    _max_startups,
    _restrictions,
    _chroot,
)
