"""bootstrap/gateway/check.py, and an sshd configuration for it to check."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.config import SERVER, TUNNEL, Option, merged, rendered
from agent.demo.sshd.program import find_sshd, free_port, version_of
from tests import ROOT
from tests.integration.ssh_client import DEADLINE_S, wait_until

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


class Host:
    """A gateway's host as far as sshd is concerned: a configuration, a key file, and a real sshd that has read them."""

    def __init__(self, directory: Path, user: str) -> None:
        self.directory, self.user, self.port = directory, user, free_port("127.0.0.1")
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)]
            subprocess.run(command, check=True)
        self.public_key = (directory / "user_key.pub").read_text().strip()
        self.config = directory / "sshd_config"
        self._sshd: subprocess.Popen[bytes] | None = None

    def configure(self, options: Mapping[str, Option], *lines: str) -> tuple[str | Path, ...]:
        """Write both files, and start sshd if it takes them; return the arguments for check.py."""
        keys = self.directory / "keys"
        keys.write_text(
            "".join(f"{line}\n" for line in lines or [key_line(self.public_key, Grant((MACHINE_ID,)))])
        )
        correct: dict[str, Option] = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "PidFile": "none",
            "HostKey": str(self.directory / "host_key"),
            "AuthorizedKeysFile": str(keys),
            "Subsystem": SERVER["Subsystem"],
            "MaxStartups": SERVER["MaxStartups"],
            "UsePAM": "no",
        }
        if half_probes():
            correct["ClientAliveCountMax"] = "1"
        for line in ("PerSourceMaxStartups 100", "PerSourcePenalties min:60 max:90"):
            if knows(line):
                name, _, value = line.partition(" ")
                correct[name] = value
        self.config.write_text(rendered(merged({**TUNNEL, **correct}, options)))
        self.start()
        return "--sshd-config", self.config, "--user", self.user

    def start(self) -> None:
        """Start sshd anew with the configuration as it is; one that it refuses starts nothing."""
        self.stop()
        self._sshd = subprocess.Popen([find_sshd(), "-D", "-f", str(self.config)])
        wait_until(lambda: self._sshd is None or self._sshd.poll() is not None or self._listens(), "sshd")

    def stop(self) -> None:
        if self._sshd is not None:
            self._sshd.kill()
            self._sshd.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def knows(line: str) -> bool:
    """Return whether this machine's sshd understands a line of the global part of its configuration."""
    command = [find_sshd(), "-t", "-f", "/dev/null", "-o", line]
    return "command-line" not in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def half_probes() -> bool:
    """Return whether this machine's sshd sends half of the probes that it is told to send."""
    return (9, 2) <= version_of(find_sshd()) <= (9, 4)
