"""Read the tunnel-only user's keys, and check that each line permits exactly what a worker needs."""

from __future__ import annotations

import pwd
import re
import socket
from pathlib import Path

from findings import FAILED, SKIPPED, WARNING, Finding, judged
from sshd_settings import Settings, one

_OPTION = re.compile(r'(permitopen|permitlisten)="([^"]*)"')
_KEY = re.compile(r"\b(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-\S+) AAAA\S+( (?P<comment>.*))?")
PORT = 6443
SOCKS_PORT = 1080
"""Where a worker's tunnel offers all of its ports to the relay."""
REISSUE = "'setup.sh --any-port' adds it to all lines; workers take that up within 10 minutes"
AUTHORIZE = "create its line with 'beta9-worker authorize' or setup.sh --public-key"


def read(user: str, settings: Settings) -> tuple[list[str], Finding | None]:
    """Return the lines of all key files, or none and a finding that says why."""
    names = one(settings, "authorizedkeysfile").split()
    files = [path for path in (_expanded(name, user) for name in names) if path and path.exists()]
    try:
        lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    except PermissionError as error:
        return [], Finding("keys", SKIPPED, f"{error.filename} is not readable: run this as root")
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if not lines and one(settings, "authorizedkeyscommand", "none") != "none":
        return [], Finding("keys", SKIPPED, "keys come from AuthorizedKeysCommand")
    if not lines:
        return [], Finding("keys", FAILED, f"no key in {', '.join(names)}", AUTHORIZE)
    return lines, None


def _expanded(name: str, user: str) -> Path | None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    values = {"%u": user, "%h": entry.pw_dir, "%U": str(entry.pw_uid), "%%": "%"}
    return Path(entry.pw_dir, re.sub("%[uhU%]", lambda match: values[match[0]], name))


def findings(
    targets: list[str], settings: Settings, lines: list[str], *, relay: bool = False
) -> list[Finding]:
    """Check each key's line, and the names that the lines use.

    `targets`: what the workers want to reach, if known; `relay`: whether this host has a relay.
    """
    found = [_line(number, line, targets, relay) for number, line in enumerate(lines, start=1)]
    return [*found, _names(settings, lines)]


def public_key(line: str) -> str | None:
    """Return the key of a line, without options and comment; None if it has none."""
    match = _KEY.search(line)
    return " ".join(match[0].split()[:2]) if match else None


def untried(line: str) -> str | None:
    """Return why sshd cannot be asked about this line on loopback, or None."""
    match = _KEY.search(line)
    options = line[: match.start()].lower() if match else ""
    if re.search(r"\bcert-authority\b", options):
        return "a certificate authority"
    return "has from=" if re.search(r"\bfrom=", options) else None


def first_targets(lines: list[str]) -> list[str]:
    """Return the gateway's address in each line: `authorize` puts it first."""
    found = [value for line in lines for kind, value in _OPTION.findall(line)[:1] if kind == "permitopen"]
    return sorted({value for value in found if not value.startswith("*")})


def _line(number: int, line: str, targets: list[str], relay: bool) -> Finding:
    name = f"key-{number}"
    match = _KEY.search(line)
    if not match:
        return Finding(name, FAILED, "contains no key that sshd can read", AUTHORIZE)
    label = match["comment"] or "without comment"
    options = line[: match.start()].strip()
    words = options.lower().split(",")
    opens = [value for kind, value in _OPTION.findall(options) if kind == "permitopen"]
    listens = [value for kind, value in _OPTION.findall(options) if kind == "permitlisten"]
    if "restrict" not in words:
        return Finding(name, WARNING, f"{label}: not restricted", AUTHORIZE)
    if "port-forwarding" not in words:
        return Finding(name, FAILED, f"{label}: permits no forwards (port-forwarding is missing)", AUTHORIZE)
    if not listens or not opens:
        missing = "permitopen" if not opens else "permitlisten"
        return Finding(name, WARNING, f"{label}: {missing} is missing, so any address is allowed", AUTHORIZE)
    summary = f"{label}: listens on {listens[0]}" + (
        f" and {len(listens) - 1} more" if len(listens) > 1 else ""
    )
    unsuitable = _unsuitable(name, label, listens, relay)
    if unsuitable:
        return unsuitable
    wanted = " or ".join(targets)
    fix = f"{AUTHORIZE}, with --target {wanted} (or pass the workers' BETA9_SSH_TARGET with --target)"
    reaches = not targets or any(target in opens for target in targets)
    return judged(name, reaches, f"{summary}, reaches {', '.join(opens)[:80]}", fix)


def _unsuitable(name: str, label: str, listens: list[str], relay: bool) -> Finding | None:
    """Return what is wrong with the places where a key may listen, or None."""
    wrong = [place for place in listens if not re.fullmatch(rf"127\..*:({PORT}|{SOCKS_PORT})", place)]
    if wrong:
        seen = f"{label}: permitlisten {wrong[0]} is not an address of a worker"
        return Finding(name, FAILED, seen, AUTHORIZE)
    if relay and not any(place.endswith(f":{SOCKS_PORT}") for place in listens):
        seen = f"{label}: permitlisten lacks port {SOCKS_PORT}, so its k3s is reached, but none of its containers"
        return Finding(name, WARNING, seen, REISSUE)
    return None


def _resolves(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def _names(settings: Settings, lines: list[str]) -> Finding:
    """Check that targets resolve: inside ChrootDirectory sshd only has the names in its etc/hosts."""
    chroot = one(settings, "chrootdirectory", "none")
    opens = {value for line in lines for kind, value in _OPTION.findall(line) if kind == "permitopen"}
    hosts = sorted({value.rpartition(":")[0] for value in opens})
    hosts = [host for host in hosts if not re.fullmatch(r"\*|\[.*\]|[0-9.]+", host)]
    if chroot == "none" or "%" in chroot:
        unknown = [host for host in hosts if not _resolves(host)]
        seen = (
            f"not resolvable on this host: {', '.join(unknown)}"
            if unknown
            else ", ".join(hosts) or "addresses only"
        )
        return judged("target-names", not unknown, seen, "add the names to /etc/hosts, or use addresses")
    if Path(chroot, "etc/resolv.conf").exists():
        return Finding("target-names", SKIPPED, f"names are resolved by {chroot}/etc/resolv.conf")
    try:
        known = Path(chroot, "etc/hosts").read_text(encoding="utf-8").split()
    except OSError:
        known = []
    unknown = [host for host in hosts if host not in known]
    fix = f"run setup.sh, or add 'ADDRESS {unknown[0] if unknown else ''}' to {chroot}/etc/hosts"
    seen = (
        f"not resolvable inside {chroot}: {', '.join(unknown)}"
        if unknown
        else ", ".join(hosts) or "addresses only"
    )
    return judged("target-names", not unknown, seen, fix)
