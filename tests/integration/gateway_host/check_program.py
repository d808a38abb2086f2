"""bootstrap/gateway/check.py, and an sshd configuration for it to check."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.config import SERVER, TUNNEL, Option, merged, rendered
from tests import ROOT
from tests.integration.ssh_client import DEADLINE_S

GATEWAY = ROOT / "bootstrap" / "gateway"
DROP_IN = GATEWAY / "50-beta9-tunnel.conf"
AUTHORIZE = GATEWAY.parents[1] / "agent" / "commands" / "authorize.py"
MACHINE_ID = "1165a9b6"
Findings = dict[str, dict[str, str]]


def check(
    *arguments: str | Path, prefix: tuple[str, ...] = (), python: tuple[str, ...] = ()
) -> tuple[int, Findings]:
    """Run check.py as on a bare host, without packages (-S) or environment (-E). Return exit code and findings."""
    command = [*prefix, sys.executable, *(python or ("-S", "-E", "-B")), str(GATEWAY / "check.py"), "--json"]
    result = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False
    )
    assert result.returncode in {0, 1}, result.stderr
    report = json.loads(result.stdout)
    assert report["ok"] == (result.returncode == 0)
    return result.returncode, {finding["name"]: finding for finding in report["findings"]}


def verdict(findings: Findings, name: str) -> str:
    return findings[name]["verdict"]


@dataclass(frozen=True)
class Host:
    """A gateway's host as far as sshd is concerned: a configuration and a key file."""

    directory: Path
    public_key: str
    user: str

    def configure(self, options: Mapping[str, Option], *lines: str) -> tuple[str | Path, ...]:
        """Write both files; return the arguments for check.py."""
        keys = self.directory / "keys"
        keys.write_text(
            "".join(f"{line}\n" for line in lines or [key_line(self.public_key, Grant((MACHINE_ID,)))])
        )
        correct: dict[str, Option] = {
            "HostKey": str(self.directory / "host_key"),
            "AuthorizedKeysFile": str(keys),
            "Subsystem": SERVER["Subsystem"],
            "MaxStartups": SERVER["MaxStartups"],
            "UsePAM": "no",
        }
        config = self.directory / "sshd_config"
        config.write_text(rendered(merged({**correct, **TUNNEL}, options)))
        return "--sshd-config", config, "--user", self.user
