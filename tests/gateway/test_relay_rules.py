"""The relay's rules in the real packet filter: set, kept, checked and removed as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.process.run import run
from tests.gateway.relay_lab import RELAY_UID, Site, site

pytestmark = pytest.mark.gateway

PODS = ("--pods-dial", "100.64.0.0/10", "--pods-from", "10.42.0.0/16")
FOREIGN = ("iptables", "-I", "INPUT", "1", "-i", "lo", "-j", "ACCEPT")


@pytest.fixture(params=[(), PODS], ids=["host network", "pods"])
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(tmp_path, "--user", str(RELAY_UID), *request.param) as made:
        yield made


def test_rules_are_set_and_removed_as_a_whole(lab: Site) -> None:
    lab.gateway.run(*FOREIGN)
    before = _state(lab)
    assert lab.relay.call("--check").returncode == 1
    assert "BETA9-RELAY" in lab.relay.call("--dry-run").stdout
    assert _state(lab) == before
    for _ in ("once", "again"):
        applied = lab.relay.call("--apply")
        assert (applied.returncode, applied.stderr) == (0, "")
        assert lab.relay.call("--check").returncode == 0
    applied_once = _state(lab)
    assert lab.gateway.run("iptables", "-S", "INPUT").splitlines()[1].endswith("BETA9-RELAY-INPUT")
    lab.gateway.run("iptables", "-D", "BETA9-RELAY-INPUT", "1")
    assert lab.relay.call("--check").returncode == 1
    assert lab.relay.call("--apply").returncode == 0
    assert _state(lab) == applied_once
    for _ in ("once", "again"):
        removed = lab.relay.call("--remove")
        assert (removed.returncode, removed.stderr) == (0, "")
        assert _state(lab) == before


def test_nft_accepts_all_but_what_this_kernel_lacks(lab: Site) -> None:
    """Where the kernel has nftables' queue, nft takes the whole set."""
    rules = lab.relay.call("--dry-run", "--packet-filter", "nft").stdout
    without_queue = "".join(line for line in rules.splitlines(keepends=True) if "queue flags" not in line)
    nft = [*lab.gateway.prefix, "nft", "--check", "-f", "-"]
    run(nft, timeout_s=20, input=without_queue)
    stderr = run(nft, timeout_s=20, input=rules, ok_codes=(0, 1)).stderr
    # A kernel without that expression: one complaint, and not about the syntax.
    complaints = re.findall(r"Error: (.*)", stderr)
    assert complaints in ([], ["Could not process rule: No such file or directory"])
    assert not complaints or "queue flags bypass to 1080" in stderr


def test_a_user_without_the_capability_is_told_what_is_missing(lab: Site) -> None:
    words = [word.replace("+net_admin", "-net_admin") for word in lab.relay.command()]
    done = run(words, timeout_s=60, ok_codes=(78,))
    assert "CAP_NET_ADMIN" in done.stderr


def _state(lab: Site) -> str:
    """Return the packet filter's rules and the local routes, without counters, times and empty tables."""
    saved = lab.gateway.run("iptables-save") + lab.gateway.run("ip", "route", "show", "table", "local")
    kept = [line for line in saved.splitlines() if not line.startswith(("#", ":", "*", "COMMIT"))]
    return "\n".join(sorted(re.sub(r"\[\d+:\d+\]", "", line) for line in kept))
