"""Puts the relay's rules into the packet filter, keeps them there, and takes them out.

nftables where the kernel has its `queue` statement, else iptables. Each is applied and removed as a whole. Needs
CAP_NET_ADMIN (iptables-legacy also CAP_NET_RAW).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from ipaddress import IPv4Network

from agent.adapters.process.run import CommandFailed, CommandNotFound, run
from agent.core.policy import RelayPolicy
from agent.core.relay.rules import (
    TABLE,
    RuleSettings,
    is_complete,
    nft_removal,
    nft_rules,
    xtables_removal,
    xtables_rules,
)
from agent.errors import SettingsError

KINDS = ("nft", "iptables")


class PacketFilter:
    """The rules of one relay, by one of `KINDS`. Raises: SettingsError where neither is there or works."""

    def __init__(
        self, settings: RuleSettings, kind: str | None = None, policy: RelayPolicy | None = None
    ) -> None:
        self._settings = settings
        self._timeout_s = (policy or RelayPolicy()).rules_timeout_s
        self.kind = kind or self._find_kind()

    def rules(self) -> str:
        """Return the rules as text, as they are applied to a packet filter that has none of them."""
        return nft_rules(self._settings) if self.kind == "nft" else xtables_rules("", self._settings)

    def apply(self) -> None:
        """Make the rules current, whatever is there of them. Raises: SettingsError."""
        try:
            for pods_range in self._ranges_of_pods():
                self._run("ip", "route", "replace", "local", str(pods_range), "dev", "lo")
            if self.kind == "nft":
                self._run("nft", "-f", "-", given=nft_rules(self._settings))
            else:
                self._run("iptables-restore", "--noflush", given=xtables_rules(self._saved(), self._settings))
        except (CommandFailed, CommandNotFound) as error:
            raise SettingsError(f"cannot set the packet filter's rules: {_said(error)}") from error

    def remove(self) -> None:
        """Take the rules out, of both kinds: a host may have changed from one to the other. Raises: SettingsError."""
        removals = (self._remove_nft, self._remove_iptables, self._remove_routes)
        problems = [problem for removal in removals if (problem := _problem_of(removal))]
        if problems:
            raise SettingsError(*(f"cannot remove the packet filter's rules: {each}" for each in problems))

    def in_place(self) -> bool:
        """Return whether every rule is there."""
        try:
            nft = self.kind == "nft"
            listing = self._run("nft", "list", "table", "ip", TABLE) if nft else self._saved()
        except (CommandFailed, CommandNotFound):
            return False
        return is_complete(listing, self._settings)

    def _find_kind(self) -> str:
        nft = ("nft", "--check", "-f", "-")
        against_nft = _problem_of(lambda: self._run(*nft, given=nft_rules(self._settings)))
        if against_nft is None:
            return "nft"
        xtables = ("iptables-restore", "--noflush", "--test")
        against = _problem_of(lambda: self._run(*xtables, given=xtables_rules("", self._settings)))
        if against is None:
            return "iptables"
        raise SettingsError(
            f"neither nft nor iptables accepts the relay's rules (nft: {against_nft}; iptables: {against}); "
            "install nftables, and run a kernel with the modules nft_queue, nft_tproxy and nft_socket"
        )

    def _remove_nft(self) -> None:
        if shutil.which("nft"):
            self._run("nft", "-f", "-", given=nft_removal())

    def _remove_iptables(self) -> None:
        removal = xtables_removal(self._saved()) if shutil.which("iptables-save") else ""
        if removal:
            self._run("iptables-restore", "--noflush", given=removal)

    def _remove_routes(self) -> None:
        for pods_range in self._ranges_of_pods():
            if self._run("ip", "route", "show", "table", "local", "exact", str(pods_range)):
                self._run("ip", "route", "del", "local", str(pods_range), "dev", "lo")

    def _ranges_of_pods(self) -> list[IPv4Network]:
        return [self._settings.pods.dialled] if self._settings.pods else []

    def _saved(self) -> str:
        return self._run("iptables-save")

    def _run(self, *argv: str, given: str | None = None) -> str:
        return run(argv, self._timeout_s, input=given).stdout


def _problem_of(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except (CommandFailed, CommandNotFound) as error:
        return _said(error)
    return None


def _said(error: CommandFailed | CommandNotFound) -> str:
    lines = str(getattr(error, "stderr", "")).strip().splitlines()
    return lines[0] if lines else str(error)
