"""The commands that make the hairpin: ip, nft, iptables, ss, nsenter."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

from agent.adapters.process.run import run
from agent.core.hairpin.layout import ACCEPTS, missing_accepts

COMMAND_S = 5.0
_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
"""Lists iptables' tables in the older kernel interface, where something uses it."""


def ip(*words: str) -> str:
    """Run `ip` and return its output. Raises: CommandFailed, TransientError."""
    return run(["ip", *words], COMMAND_S).stdout


def ip_batch(lines: Sequence[str], namespace: str = "") -> None:
    """Run several lines of `ip`, all or up to the first that fails. Raises: CommandFailed, TransientError."""
    run([*_inside(namespace), "ip", "-batch", "-"], COMMAND_S, "".join(f"{line}\n" for line in lines))


def nft(rules: str, namespace: str = "") -> None:
    """Load rules, all or none. Raises: CommandFailed, TransientError."""
    run([*_inside(namespace), "nft", "--file", "-"], COMMAND_S, rules)


def _inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net={namespace}", "--"] if namespace else []


def cut(address: str, port: int) -> bool:
    """Close this machine's connections to an address and port; return False if some are still open.

    Raises: CommandFailed, TransientError.
    """
    to = ["dst", address, "dport", "=", f":{port}"]
    run(["ss", "-K", "-H", "-n", "-t", *to], COMMAND_S)
    return not run(["ss", "-H", "-n", "-t", "state", "established", *to], COMMAND_S).stdout.strip()


def accept() -> bool:
    """Let the hairpin's connections pass iptables' chains; return whether they did already.

    Raises: CommandFailed, TransientError.
    """
    passed = True
    for command in iptables():
        for chain, rule in missing_accepts(run([command, "-w", "5", "-S"], COMMAND_S).stdout):
            passed = False
            run([command, "-w", "5", "-I", chain, "1", *rule.split()], COMMAND_S)
    return passed


def accept_no_longer() -> None:
    """Remove these rules. Raises: CommandFailed, TransientError."""
    for command in iptables():
        missing = missing_accepts(run([command, "-w", "5", "-S"], COMMAND_S).stdout)
        for chain, rule in ACCEPTS:
            if (chain, rule) not in missing:
                run([command, "-w", "5", "-D", chain, *rule.split()], COMMAND_S)


def iptables() -> list[str]:
    """Return the iptables of each kernel interface that is in use here. The older one is never brought into use."""
    tables = _LEGACY_TABLES.read_text(encoding="ascii").split() if _LEGACY_TABLES.exists() else []
    used = ["nft", "legacy"] if "filter" in tables else ["nft"]
    return [command for each in used if (command := _iptables_of(each)) is not None]


@functools.cache
def _iptables_of(interface: str) -> str | None:
    command = shutil.which(f"iptables-{interface}")
    if command is not None or shutil.which("iptables") is None:
        return command
    version = run(["iptables", "--version"], COMMAND_S).stdout
    is_nft = "nf_tables" in version
    return "iptables" if is_nft == (interface == "nft") else None
