"""Keys and sshd settings from before workers listened on the relay's port."""

from __future__ import annotations

import re
from pathlib import Path

from agent.core.provisioning.authorized_keys import Grant, key_line
from tests.integration.gateway_host.check_program import MACHINE_ID
from tests.integration.gateway_host.setup_site import Site
from tests.integration.ssh_client import as_root


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
