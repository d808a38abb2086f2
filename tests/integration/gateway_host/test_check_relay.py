"""check.py on a host with a relay: what else sshd and the keys must permit, and what the login proves."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import POOL_PATTERNS
from tests.integration.gateway_host.check_program import MACHINE_ID, Host, check, verdict
from tests.integration.gateway_host.setup_site import Site
from tests.integration.ssh_client import as_root

pytestmark = as_root

PLAIN = " ".join(f"{pattern}:6443" for pattern in POOL_PATTERNS)
BOTH = f"{PLAIN} {PLAIN.replace(':6443', ':1080')}"


@pytest.fixture
def relay() -> Iterator[str]:
    """A relay's user, as far as check.py looks for it: it does not run."""
    name = f"b9c-{secrets.token_hex(3)}"
    options = Path("/etc") / name / "options"
    options.parent.mkdir()
    options.write_text('RELAY_OPTIONS=""\n')
    try:
        yield name
    finally:
        shutil.rmtree(options.parent)


def line(host: Host, *ports: int) -> str:
    """Return the machine's line as it permits these ports."""
    plain = re.sub(r',permitlisten="[^"]*:1080"', "", key_line(host.public_key, Grant((MACHINE_ID,))))
    listens = re.findall(r',permitlisten="[^"]*"', plain)
    every = "".join(each.replace(":6443", f":{port}") for port in ports for each in listens)
    return re.sub(r'(,permitlisten="[^"]*")+', every, plain)


@pytest.mark.parametrize(
    ("permitted", "ports", "expected"),
    [
        (BOTH, (6443, 1080), ["ok", "ok", "ok"]),
        (BOTH, (6443,), ["ok", "warning", "ok"]),
        (PLAIN, (6443, 1080), ["failed", "ok", "skipped"]),
    ],
    ids=["both know 1080", "a key of before", "an sshd of before"],
)
def test_beside_a_relay_sshd_and_keys_must_permit_1080(
    host: Host, relay: str, permitted: str, ports: tuple[int, ...], expected: list[str]
) -> None:
    arguments = host.configure({"PermitListen": permitted}, line(host, *ports))
    _, findings = check(*arguments, "--relay-user", relay)
    found = [verdict(findings, name) for name in ("permit-listen", "key-1", "login")]
    assert found == expected, findings
    assert "1080" in findings["permit-listen"]["fix"] + findings["key-1"]["seen"] + findings["login"]["seen"]


def test_without_a_relay_1080_is_welcome_and_not_missed(host: Host) -> None:
    for permitted, ports in ((PLAIN, (6443,)), (BOTH, (6443, 1080))):
        code, findings = check(*host.configure({"PermitListen": permitted}, line(host, *ports)))
        assert (code, verdict(findings, "key-1"), verdict(findings, "login")) == (0, "ok", "ok"), findings
        assert "relay" not in findings


def test_a_relay_that_was_installed_and_does_not_run_is_named(host: Host, relay: str) -> None:
    code, findings = check(*host.configure({}), "--relay-user", relay)
    assert (code, verdict(findings, "relay"), verdict(findings, "relay-rules")) == (1, "failed", "failed")
    assert verdict(findings, "names") == "warning"


@as_root
def test_lines_from_before_the_relay_get_its_port_by_one_command(site: Site, worker: Path) -> None:
    """Keys that were installed when workers listened on 6443 alone; nothing else of their lines changes."""
    line = key_line(Path(f"{worker}.pub").read_text(), Grant((MACHINE_ID,)))
    old = re.sub(r',permitlisten="[^"]*:1080"', "", line)
    assert site.setup("--key-line", old).returncode == 0
    keys = site.directory / f"{site.user}.keys"
    assert keys.read_text() == f"{old}\n"
    assert "would write" in site.setup("--any-port", "--dry-run").stdout
    for _ in range(2):
        assert site.setup("--any-port").returncode == 0
        assert keys.read_text() == f"{line}\n"
