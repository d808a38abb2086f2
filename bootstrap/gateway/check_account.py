"""Check the tunnel-only user's account, and explain which list of users keeps it out."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import time
from pathlib import Path

from findings import FAILED, SKIPPED, WARNING, Finding, judged
from sshd_settings import Settings, one


def findings(user: str, settings: Settings) -> list[Finding]:
    """Check the account."""
    return [_account(user), _locked(user, settings)]


def _account(user: str) -> Finding:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return Finding(
            "account", FAILED, f"user {user} does not exist", "run setup.sh, or give the right --user"
        )
    return judged(
        "account",
        entry.pw_uid != 0,
        f"{user}, uid {entry.pw_uid}, shell {entry.pw_shell}",
        "let workers log in as a dedicated user that can do nothing else",
    )


def _locked(user: str, settings: Settings) -> Finding:
    try:
        lines = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
    except PermissionError:
        return Finding("account-open", SKIPPED, "/etc/shadow is readable by root only: run this as root")
    fields = next((line.split(":") for line in lines if line.startswith(f"{user}:")), None)
    if fields is None:
        return Finding("account-open", SKIPPED, f"{user} is not in /etc/shadow")
    if fields[7] and int(fields[7]) * 86400 <= time.time():
        return Finding("account-open", FAILED, "the account has expired", f"chage --expiredate -1 {user}")
    locked, pam = fields[1].startswith("!"), one(settings, "usepam") == "yes"
    seen = f"{'locked' if locked else 'not locked'}, UsePAM {'yes' if pam else 'no'}"
    fix = f"usermod --password '*' {user}: without PAM sshd refuses the keys of a locked account"
    return judged("account-open", not locked, seen, fix, otherwise=WARNING if pam else FAILED)


def refusal(settings: Settings, user: str) -> tuple[str, str] | None:
    """Return which list keeps the user out, and the fix, or None if none of them does.

    sshd's own refusal names the option, but not its value. Of a pattern USER@HOST only the user counts here.
    """

    def matches(option: str) -> bool:
        words = " ".join(settings.get(option, [])).split()
        return any(fnmatch.fnmatchcase(user, word.partition("@")[0]) for word in words)

    def in_group(option: str) -> bool:
        return _in_group(user, " ".join(settings.get(option, [])).split())

    if matches("denyusers"):
        return f"DenyUsers {one(settings, 'denyusers')}", f"remove {user} from it"
    if "allowusers" in settings and not matches("allowusers"):
        return f"AllowUsers {one(settings, 'allowusers')}", f"add {user} to it"
    if in_group("denygroups"):
        return f"DenyGroups {one(settings, 'denygroups')}", f"remove {user}'s group from it"
    if "allowgroups" in settings and not in_group("allowgroups"):
        return f"AllowGroups {one(settings, 'allowgroups')}", f"add {user} to one of these groups"
    return None


def by_address(settings: Settings) -> str | None:
    """Return the list that depends on where a user comes from, which a login on loopback cannot tell, or None."""
    for option in ("denyusers", "allowusers"):
        if any("@" in value for value in settings.get(option, [])):
            return f"{option} {one(settings, option)}"
    return None


def _in_group(user: str, patterns: list[str]) -> bool:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return False
    names = [grp.getgrgid(gid).gr_name for gid in os.getgrouplist(user, entry.pw_gid)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)
