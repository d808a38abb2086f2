"""Let sshd itself judge whether workers get in: offer it their public keys, and log in as one of them would.

What the settings say is not enough: sshd also refuses keys for the modes of a directory, a locked account, or its age.
"""

from __future__ import annotations

import pwd
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import check_account
import check_keys
import sshd_trial
from findings import FAILED, OK, SKIPPED, WARNING, Finding, judged
from sshd_settings import Settings, listening, one

ADDRESS = "127.64.0.255"
"""In the workers' block, but never assigned: workers' addresses end in 1 to 254."""
KEYS_AT_ONCE = 90
"""ssh takes 100 keys at most."""
REQUEST = b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n"
NAMES = ("admitted", "key-file", "running", "login", "target")
_REFUSED = re.compile(r"^(User .* not allowed because .*|Invalid user .*)$", re.MULTILINE)
_STRICT = re.compile(r"Authentication refused: bad ownership or modes for \w+ (\S+)")


@dataclass(frozen=True)
class Host:
    """What is to be tried, and how."""

    sshd: str
    config: Path
    user: str
    settings: Settings
    targets: Sequence[str]
    """The gateway's addresses that workers want to reach."""
    identity: Path | None = None
    port: int = check_keys.PORT
    """Where workers listen: 1080 if this host has a relay."""


def findings(host: Host, lines: Sequence[str], failed: bool) -> list[Finding]:
    """Try everything. `failed`: another check has failed already, so that a login could not succeed."""
    reason = sshd_trial.missing()
    if reason:
        return [Finding(name, SKIPPED, reason) for name in NAMES]
    with tempfile.TemporaryDirectory() as directory:
        keys = _written(lines, Path(directory))
        found, admitted = _offered(host, lines, keys)
        found.append(_running(host, admitted))
        if failed or any(finding.verdict == FAILED for finding in found):
            fix_first = "correct what failed first"
            found += [Finding(name, SKIPPED, f"not tried: {fix_first}") for name in ("login", "target")]
        else:
            found += _as_a_worker(host, Path(directory))
    return found


def _written(lines: Sequence[str], directory: Path) -> dict[str, Path]:
    """Write the public key of each line that can be tried to a file, by the name of its finding."""
    files = {}
    for number, line in enumerate(lines, start=1):
        key = check_keys.public_key(line)
        if key and not check_keys.untried(line):
            path = files[f"key-{number}"] = directory / f"{number}.pub"
            path.write_text(key + "\n", encoding="utf-8")
    return files


def _offered(host: Host, lines: Sequence[str], keys: dict[str, Path]) -> tuple[list[Finding], list[Path]]:
    """Offer the keys to a second sshd. Return what it says of the account and of the keys, and those that it takes."""
    untriable = check_account.by_address(host.settings)
    if untriable or one(host.settings, "pubkeyauthentication") != "yes":
        seen = (
            f"{untriable}: depends on where a worker comes from"
            if untriable
            else "not tried: sshd takes no keys"
        )
        return [Finding(name, SKIPPED, seen) for name in ("admitted", "key-file")], []
    taken: set[Path] = set()
    log, paths = "", list(keys.values())
    for start in range(0, max(1, len(paths)), KEYS_AT_ONCE):
        with sshd_trial.second_sshd(host.sshd, host.config) as place:
            answer = sshd_trial.offer(place, host.user, paths[start : start + KEYS_AT_ONCE])
        log += place.log
        if not answer.came_to_keys:
            seen = f"{answer.complaint}; sshd: {_last(log)}"
            return [Finding("admitted", FAILED, seen, "correct what sshd says")], []
        taken |= answer.accepted
    refused = _account_refused(host, log) if not taken else None
    if refused:
        return [
            refused,
            Finding("key-file", SKIPPED, "not tried: sshd refuses the user whatever the key"),
        ], []
    admitted = Finding("admitted", OK, f"sshd lets {host.user} offer a key")
    return [admitted, _key_file(lines, keys, taken, _why(host, log))], [
        path for path in paths if path in taken
    ]


def _account_refused(host: Host, log: str) -> Finding | None:
    said, listed = _REFUSED.search(log), check_account.refusal(host.settings, host.user)
    if not said and not listed:
        return None
    seen, fix = listed or ("", "correct what sshd says")
    return Finding("admitted", FAILED, "; ".join(filter(None, (seen, said[1] if said else ""))), fix)


def _key_file(lines: Sequence[str], keys: dict[str, Path], taken: set[Path], why: tuple[str, str]) -> Finding:
    untried = [
        f"key-{n} ({what})" for n, line in enumerate(lines, start=1) if (what := check_keys.untried(line))
    ]
    more = f"; not tried: {', '.join(untried)}" if untried else ""
    refused = [name for name, path in keys.items() if path not in taken]
    if refused:
        return Finding("key-file", FAILED, f"sshd refuses {', '.join(refused)}: {why[0]}{more}", why[1])
    if not keys:
        return Finding("key-file", SKIPPED, f"no key to try{more}")
    return Finding("key-file", OK, f"sshd accepts {', '.join(keys)}{more}")


def _why(host: Host, log: str) -> tuple[str, str]:
    """Return why sshd refuses a key, in its own words as far as it has any, and the fix."""
    strict = _STRICT.search(log)
    if strict:
        path = Path(strict[1])
        wrong = path.stat().st_uid not in {0, pwd.getpwnam(host.user).pw_uid}
        own = f"chown root {path} && " if wrong else ""
        return strict[0], f"{own}chmod go-w {path}: sshd reads keys only where nobody else can write"
    denied = re.search(r"Could not open .*: Permission denied", log)
    if denied:
        fix = f"let {host.user} read it: chmod 0644 for the file, and chmod o+x for the directories above it"
        return denied[0], fix
    plain = [
        line for line in log.splitlines() if line and not line.startswith(("debug", "Connection", "Failed"))
    ]
    said = [line for line in plain if re.search(r"key|refused|allowed|xpired|algorithm", line)]
    return said[-1] if said else "it does not say why", f"see sshd's log, or {check_keys.AUTHORIZE}"


def _running(host: Host, admitted: Sequence[Path]) -> Finding:
    """Ask the sshd that runs: it may have been started with other settings than those of its file."""
    place = next((place for place in map(_place, listening(host.settings)) if _connects(place)), None)
    if place is None:
        addresses = ", ".join(f"{address}:{port}" for address, port in listening(host.settings))
        return Finding(
            "running",
            FAILED,
            f"nothing listens on {addresses}, as sshd's configuration says",
            "start sshd; if systemd listens for it (systemctl list-sockets), the port is that of the socket's unit",
        )
    where = f"{place.host}:{place.port}"
    if not admitted:
        return Finding("running", SKIPPED, f"something listens on {where}; there is no key to ask it with")
    taken = sshd_trial.offer(place, host.user, admitted[:1]).accepted
    fix = "reload it (systemctl reload ssh, or sshd): it has not read its configuration since that changed"
    seen = f"sshd on {where} {'accepts' if taken else 'refuses'} a key that its configuration admits"
    return judged("running", bool(taken), seen, fix)


def _place(address: tuple[str, int]) -> sshd_trial.Place:
    return sshd_trial.Place(address[1], address[0])


def _connects(place: sshd_trial.Place) -> bool:
    return sshd_trial.answers(place.host, place.port)


def _as_a_worker(host: Host, directory: Path) -> Iterable[Finding]:
    """Log in with a key that only the second sshd knows, and do what a worker does."""
    own = directory / "own"
    opens = "".join(f',permitopen="{target}"' for target in host.targets)
    listens = f',permitlisten="{ADDRESS}:{host.port}"'
    line = f"restrict,port-forwarding{opens}{listens} {sshd_trial.make_key(own)}"
    with sshd_trial.second_sshd(host.sshd, host.config, line) as place:
        problem = sshd_trial.session(
            place, host.user, own, f"{ADDRESS}:{host.port}", channel=_has_sftp(host.settings)
        )
    if problem:
        yield _login_failed(host, problem, place.log)
        return
    yield Finding("login", OK, f"a second sshd let a test key in, which listened on {ADDRESS}:{host.port}")
    if host.identity:
        yield _with_identity(host, host.identity)
    for target in host.targets:
        with sshd_trial.second_sshd(host.sshd, host.config, line) as place:
            yield _target(target, *sshd_trial.dial(place, host.user, own, target, REQUEST))


def _has_sftp(settings: Settings) -> bool:
    allowed = one(settings, "maxsessions", "10") != "0" and "subsystem" in settings
    return allowed and one(settings, "forcecommand", "none").startswith("internal-sftp")


def _login_failed(host: Host, problem: str, log: str) -> Finding:
    if "Permission denied" in problem and one(host.settings, "authorizedkeyscommand", "none") != "none":
        return Finding(
            "login", SKIPPED, "a test key cannot be used beside AuthorizedKeysCommand; give --identity"
        )
    return Finding("login", FAILED, f"{problem}; sshd: {_last(log)}", "correct what ssh and sshd say")


def _with_identity(host: Host, identity: Path) -> Finding:
    place = next(place for place in map(_place, listening(host.settings)) if _connects(place))
    problem = sshd_trial.session(place, host.user, identity, channel=_has_sftp(host.settings))
    where = f"{place.host}:{place.port}"
    return judged(
        "identity", not problem, problem or f"logged in on {where} with {identity}", "correct what ssh says"
    )


def _target(target: str, problem: str, received: bytes) -> Finding:
    if "onnection refused" in problem:
        fix = "start the gateway, or give the address on which it listens (BETA9_SSH_TARGET) with --target"
        return Finding("target", WARNING, f"nothing listens on {target}", fix)
    if problem:
        return Finding(
            "target", FAILED, f"{target}: {problem}", "check permitopen and the names in the chroot"
        )
    first = received.split(b"\r\n")[0].decode("ascii", "replace")[:60]
    good = re.match(r"HTTP/1\.\d 200\b", first) is not None
    seen = f"{target} answers /health with {first or 'nothing'!r}"
    return judged("target", good, seen, "is the gateway well, and is this its HTTP port?", otherwise=WARNING)


def _last(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("debug")]
    return " / ".join(lines[-2:])[:300] or "sshd does not start"
