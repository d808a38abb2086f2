"""Check that sshd finds the tunnel-only user's keys, and that each permits exactly what a worker needs."""

from __future__ import annotations

import fnmatch
import pwd
import re
from pathlib import Path

from findings import FAILED, OK, SKIPPED, WARNING, Finding, judged
from sshd_settings import Settings, one

_OPTION = re.compile(r'(permitopen|permitlisten)="([^"]*)"')
_KEY = re.compile(r"\b(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-\S+) AAAA\S+( (?P<comment>.*))?")
AUTHORIZE = "create its line with 'beta9-worker authorize' or setup.sh --public-key"


def findings(user: str, target: str, settings: Settings) -> list[Finding]:
    """Check the key files, each key's line, and the names that the lines use."""
    names = one(settings, "authorizedkeysfile").split()
    files = [path for path in (_expanded(name, user) for name in names) if path and path.exists()]
    try:
        lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    except PermissionError as error:
        return [Finding("keys", SKIPPED, f"{error.filename} is not readable: run this as root")]
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    if not lines and one(settings, "authorizedkeyscommand", "none") != "none":
        return [Finding("keys", SKIPPED, "keys come from AuthorizedKeysCommand")]
    if not lines:
        return [Finding("keys", FAILED, f"no key in {', '.join(names)}", AUTHORIZE)]
    found = [_permissions(files)]
    found += [_line(number, line, target) for number, line in enumerate(lines, start=1)]
    found.append(_names(settings, lines))
    return found


def _expanded(name: str, user: str) -> Path | None:
    try:
        home = pwd.getpwnam(user).pw_dir
    except KeyError:
        return None
    name = name.replace("%u", user).replace("%h", home).replace("%%", "%")
    return Path(home, name)


def _permissions(files: list[Path]) -> Finding:
    """Check what StrictModes requires, and that sshd can read the file after dropping root's privileges."""
    for path in files:
        mode = path.stat().st_mode
        if mode & 0o022:
            return Finding("key-file", FAILED, f"{path} is writable by others", f"chmod go-w {path}")
        if not mode & 0o004 and path.stat().st_uid == 0:
            return Finding("key-file", FAILED, f"{path} is readable by root only", f"chmod 0644 {path}")
    return Finding("key-file", OK, ", ".join(map(str, files)))


def _line(number: int, line: str, target: str) -> Finding:
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
    wrong = [address for address in listens if not fnmatch.fnmatchcase(address, "127.*:6443")]
    if wrong:
        return Finding(
            name, FAILED, f"{label}: permitlisten {wrong[0]} is not an address of a worker", AUTHORIZE
        )
    fix = f"{AUTHORIZE} --target {target} (or pass the workers' BETA9_SSH_TARGET with --target)"
    return judged(name, target in opens, f"{summary}, reaches {', '.join(opens)[:80]}", fix)


def _names(settings: Settings, lines: list[str]) -> Finding:
    """Check that targets resolve: inside ChrootDirectory sshd only has the names in its etc/hosts."""
    chroot = one(settings, "chrootdirectory", "none")
    opens = {value for line in lines for kind, value in _OPTION.findall(line) if kind == "permitopen"}
    hosts = sorted({value.rpartition(":")[0] for value in opens})
    hosts = [host for host in hosts if not re.fullmatch(r"\*|\[.*\]|[0-9.]+", host)]
    if chroot == "none" or "%" in chroot:
        return Finding("target-names", OK, "names are resolved as usual on this host")
    if Path(chroot, "etc/resolv.conf").exists():
        return Finding("target-names", OK, f"names are resolved by {chroot}/etc/resolv.conf")
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
