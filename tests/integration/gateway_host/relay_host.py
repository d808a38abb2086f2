"""A gateway's host for setup.sh --relay: a network namespace, with systemd's directories of its own."""

from __future__ import annotations

import pwd
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.demo.sshd.program import find_sshd
from tests.integration.gateway_host.check_program import GATEWAY, Findings, check
from tests.integration.gateway_host.setup_site import Site
from tests.integration.netns import Place
from tests.integration.ssh_client import DEADLINE_S, wait_until

SYSTEMCTL = """#!/bin/bash
# Knows the units in /etc/systemd/system, as systemd does after daemon-reload; states are files in {states}.
cd {states}
printf '%s\\n' "$*" >>calls
unit=${{!#}}
known() {{ [[ -e loaded.$unit ]] || {{ echo "Unit $unit not found." >&2; exit 5; }}; }}
case $1 in
  daemon-reload) rm -f loaded.*; for file in /etc/systemd/system/*.service; do touch "loaded.${{file##*/}}"; done ;;
  is-enabled) [[ -e enabled.$unit ]] ;;
  is-active) [[ -e active.$unit ]] ;;
  enable) known; touch "enabled.$unit" ;;
  restart) known; touch "active.$unit" ;;
  disable) known; [[ $* == *--now* ]] && rm -f "active.$unit"; rm -f "enabled.$unit" ;;
  *) exit 64 ;;
esac
"""


class RelayHost:
    """A gateway's host for setup.sh --relay."""

    def __init__(self, site: Site, place: Place, directory: Path) -> None:
        self.site, self.place, self.directory = site, place, directory
        self.user = f"{site.user}r"
        self.program = Path("/usr/local/lib") / self.user
        self.options = Path("/etc") / self.user / "options"
        self.units, self.states = directory / "units", directory / "states"
        for each in (directory / "run", directory / "bin", self.units, self.states):
            each.mkdir()
        mounts = (
            "mkdir -p /run/systemd /etc/systemd/system && "
            f"mount --bind {directory}/run /run/systemd && mount --bind {self.units} /etc/systemd/system"
        )
        self.inside = (*place.prefix, "unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")

    def with_systemd(self) -> None:
        (self.directory / "run" / "system").mkdir()
        systemctl = self.directory / "bin" / "systemctl"
        systemctl.write_text(SYSTEMCTL.format(states=self.states))
        systemctl.chmod(0o755)

    def calls(self, verb: str) -> int:
        """Return how often systemd was told to do this, and forget it."""
        calls = self.states / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return sum(line.split()[0] == verb for line in lines)

    def setup(self, *arguments: str, script: Path = GATEWAY / "setup.sh") -> subprocess.CompletedProcess[str]:
        names = ("--sshd-config", str(self.site.config), "--user", self.site.user, "--relay-user", self.user)
        return subprocess.run(
            [*self.inside, str(script), *names, *arguments],
            env={"PATH": f"{self.directory}/bin:{Path(find_sshd()).parent}:/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def check(self) -> Findings:
        names = ("--sshd-config", self.site.config, "--user", self.site.user, "--relay-user", self.user)
        return check(*names, prefix=self.inside)[1]

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run the relay as a service manager other than systemd does; yield its pid."""
        process = subprocess.Popen([*self.inside, str(self.program / "start")], stdout=subprocess.DEVNULL)
        try:
            wait_until(self._answers, "the relay")
            yield process.pid
        finally:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        with self.place.inside(), socket.socket() as client:
            return client.connect_ex(("127.0.0.1", 9465)) == 0

    def left_behind(self) -> list[str]:
        """Return what there is of the relay on this host."""
        places = [self.program, self.options.parent, Path(f"/etc/sysctl.d/60-{self.user}.conf")]
        found = [str(path) for path in [*places, *self.units.iterdir()] if path.exists()]
        found += [entry.pw_name for entry in pwd.getpwall() if entry.pw_name == self.user]
        rules = self.place.run("iptables-save") + self.place.run("nft", "list", "ruleset")
        return [*found, *(line for line in rules.splitlines() if "beta9" in line.lower())]
