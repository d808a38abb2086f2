"""bootstrap/gateway/setup.sh where sshd is not a running service: by socket, masked, by hand, or not at all.

In a mount namespace with an /etc/ssh and a /run of the test's own, a real sshd, and a systemctl that answers as systemd
252 does for the states that a test gives.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.demo.sshd.program import find_sshd
from tests.integration.gateway_host.check_program import GATEWAY
from tests.integration.gateway_host.setup_site import Site
from tests.integration.ssh_client import DEADLINE_S, as_root, wait_until

pytestmark = as_root

SYSTEMCTL = """#!/bin/bash
# States are files: units/NAME.active holds a pid, units/NAME.enabled a word; a unit without the latter is not known.
cd {units}
printf '%s\\n' "$*" >>calls
unit=${{!#}}; [[ $unit == *.* ]] || unit+=.service
state=$(cat "$unit.enabled" 2>/dev/null)
case $1 in
  is-active) if [[ -e $unit.active ]]; then echo active; else echo inactive; exit 3; fi ;;
  is-enabled)
    [[ -n $state ]] || {{ echo "Failed to get unit file state for $unit: No such file or directory" >&2; exit 1; }}
    echo "$state"; [[ $state == enabled ]] ;;
  show) cat "$unit.active" ;;
  reload)
    [[ -n $state ]] || {{ echo "Failed to reload $unit: Unit $unit not found." >&2; exit 5; }}
    [[ $state != masked ]] || {{ echo "Failed to reload $unit: Unit $unit is masked." >&2; exit 1; }}
    [[ -e $unit.active ]] || {{ echo "$unit is not active, cannot reload." >&2; exit 1; }}
    [[ ! -e $unit.no-reload ]] ||
      {{ echo "Failed to reload $unit: Job type reload is not applicable for unit $unit." >&2; exit 1; }}
    kill -HUP "$(<"$unit.active")" ;;
  *) exit 64 ;;
esac
"""


@dataclass(frozen=True)
class Services:
    """The host's units: `enabled` by name with their state; `active` ones; those that cannot be reloaded."""

    enabled: dict[str, str] = field(default_factory=dict)
    active: tuple[str, ...] = ()
    no_reload: tuple[str, ...] = ()
    pid_file: bool = False
    """Whether a real sshd runs that no unit started."""


class Machine:
    """A host whose sshd is configured in /etc/ssh."""

    def __init__(self, site: Site, directory: Path, services: Services) -> None:
        self._site, self._directory, self._services = site, directory, services
        self.units, self.run = directory / "units", directory / "run"
        self.log = directory / "log"
        for each in (self.units, self.run / "systemd" / "system", directory / "bin"):
            each.mkdir(parents=True)
        (directory / "bin" / "systemctl").write_text(SYSTEMCTL.format(units=self.units))
        (directory / "bin" / "systemctl").chmod(0o755)
        shutil.copy(site.directory / "host_key", directory)
        site.config.write_text(
            f"Include /etc/ssh/sshd_config.d/*.conf\nPort {site.port}\nListenAddress 127.0.0.1\n"
            f"HostKey /etc/ssh/host_key\nPidFile {self.run}/sshd.pid\nUsePAM no\n"
        )
        for unit, state in services.enabled.items():
            (self.units / f"{unit}.enabled").write_text(state)
        self.sshd: subprocess.Popen[bytes] | None = None

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.inside(), *command],
            env={"PATH": f"{self._directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def inside(self) -> list[str]:
        """The command that puts the following one into the namespace; nothing of the real /etc/ssh is changed."""
        mounts = f"mount --bind {self._site.directory} /etc/ssh && mount --bind {self.run} /run"
        # The directories stay where the paths in the configuration expect them.
        keep = f"mkdir -p /run/{self._site.directory.name}"
        return ["unshare", "--mount", "sh", "-c", f'{mounts} && {keep} && exec "$@"', "sh"]

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self(str(GATEWAY / "setup.sh"), "--user", self._site.user, *arguments)

    def start_sshd(self) -> None:
        (self.run / "sshd").mkdir(mode=0o755, exist_ok=True)
        self.sshd = subprocess.Popen([*self.inside(), find_sshd(), "-D", "-E", str(self.log)])
        wait_until((self.run / "sshd.pid").exists, "sshd")
        for unit in self._services.active:
            if unit.endswith(".service"):
                (self.units / f"{unit}.active").write_text((self.run / "sshd.pid").read_text())
        if not self._services.pid_file:
            (self.run / "sshd.pid").unlink()

    def reloads(self) -> int:
        text = self.log.read_text() if self.log.exists() else ""
        return text.count("Received SIGHUP")

    def calls(self, verb: str) -> list[str]:
        text = (self.units / "calls").read_text() if (self.units / "calls").exists() else ""
        return [line.split()[-1] for line in text.splitlines() if line.split()[0] == verb]

    def end(self) -> None:
        if self.sshd is not None:
            self.sshd.send_signal(signal.SIGKILL)
            self.sshd.wait()


@contextmanager
def machine(site: Site, directory: Path, services: Services) -> Iterator[Machine]:
    made = Machine(site, directory, services)
    for unit in services.active:
        (made.units / f"{unit}.active").touch()
    for unit in services.no_reload:
        (made.units / f"{unit}.no-reload").touch()
    try:
        if services.pid_file or any(unit.endswith(".service") for unit in services.active):
            made.start_sshd()
        yield made
        made.setup("--remove")
    finally:
        made.end()


ENABLED, MASKED = {"ssh.service": "enabled"}, {"ssh.service": "masked"}
BY_SOCKET = {"ssh.service": "disabled", "ssh.socket": "enabled"}


@pytest.mark.parametrize(
    ("services", "reloaded", "said"),
    [
        pytest.param(Services(ENABLED, ("ssh.service",)), "ssh.service", "reload ssh.service", id="ssh"),
        pytest.param(
            Services({"sshd.service": "enabled"}, ("sshd.service",)), "sshd.service", "reload sshd", id="sshd"
        ),
        pytest.param(
            Services(BY_SOCKET, ("ssh.socket",)),
            "",
            "ssh.socket starts it with the new",
            id="11.4: by socket",
        ),
        pytest.param(
            Services(BY_SOCKET, ("ssh.socket", "ssh.service")),
            "ssh.service",
            "reload",
            id="socket, and started",
        ),
        pytest.param(
            Services({"sshd.service": "disabled", "sshd.socket": "enabled"}, ("sshd.socket",)),
            "",
            "sshd.socket starts it",
            id="sshd by socket",
        ),
        pytest.param(Services(ENABLED), "", "systemctl enable --now ssh.service", id="stopped"),
        pytest.param(
            Services({"sshd.service": "disabled"}), "", "systemctl enable --now sshd.service", id="disabled"
        ),
        pytest.param(Services(MASKED), "", "systemctl unmask ssh.service", id="masked"),
        pytest.param(Services(), "", "the settings apply once it is started", id="no unit"),
        pytest.param(Services(MASKED, pid_file=True), "pid", "reload sshd", id="masked, started by hand"),
        pytest.param(
            Services(ENABLED, ("ssh.service",), ("ssh.service",)), "pid", "reload", id="cannot be reloaded"
        ),
    ],
)
def test_whatever_state_sshd_is_in_setup_succeeds_and_reloads_what_runs(  # noqa: PLR0917 - a table's columns
    site: Site, worker: Path, tmp_path: Path, services: Services, reloaded: str, said: str
) -> None:
    """Field case 11.4 and its kind. /run/sshd is missing wherever sshd has not been started."""
    with machine(site, tmp_path, services) as host:
        arguments = ("--pool-key", "--public-key", f"{worker}.pub")
        drop_in = site.directory / "sshd_config.d" / f"50-{site.user}.conf"
        for count, call in enumerate((arguments, arguments, ("--remove",))):
            done = host.setup(*call)
            assert done.returncode == 0, done.stdout + done.stderr
            assert drop_in.exists() == (call == arguments)
            assert (said in done.stdout) == (count != 1), (
                "it is said when something has changed, and only then"
            )
        if reloaded:
            wait_until(lambda: host.reloads() == 2, "the reloads, after the setup and after the removal")
        assert set(host.calls("reload")) == (
            {reloaded} if reloaded.endswith("service") else set(services.no_reload)
        )


def test_what_a_failed_run_left_is_reloaded_by_the_next(site: Site, worker: Path, tmp_path: Path) -> None:
    """Field case 11.4: the second run exited 0 without a reload."""
    services = Services(ENABLED, ("ssh.service",), ("ssh.service",))
    with machine(site, tmp_path, services) as host:
        pid = (host.units / "ssh.service.active").read_text()
        (host.units / "ssh.service.active").write_text("0")
        done = host.setup("--pool-key", "--public-key", f"{worker}.pub")
        assert done.returncode == 1
        assert "ssh.service cannot be reloaded" in done.stderr
        (host.units / "ssh.service.active").write_text(pid)
        (host.units / "ssh.service.no-reload").unlink()
        done = host.setup()
        assert (done.returncode, host.calls("reload")) == (0, ["ssh.service"] * 2)
        wait_until(lambda: host.reloads() == 1, "the reload")


def test_a_stale_pid_file_ends_no_other_program(site: Site, worker: Path, tmp_path: Path) -> None:
    """The kind's other member: after a crash the pid may be anybody's, and SIGHUP ends most programs."""
    with machine(site, tmp_path, Services()) as host, subprocess.Popen(["sleep", "1000"]) as other:
        (host.run / "sshd.pid").write_text(f"{other.pid}\n")
        done = host.setup("--pool-key", "--public-key", f"{worker}.pub")
        assert (done.returncode, other.poll()) == (0, None)
        assert "the settings apply once it is started" in done.stdout
        other.kill()


def test_without_host_keys_it_says_how_to_create_them(site: Site, worker: Path, tmp_path: Path) -> None:
    with machine(site, tmp_path, Services(ENABLED)) as host:
        (site.directory / "host_key").rename(tmp_path / "away")
        done = host.setup("--pool-key", "--public-key", f"{worker}.pub")
        assert done.returncode == 1
        assert "ssh-keygen -A" in done.stderr
        (tmp_path / "away").rename(site.directory / "host_key")
        assert host.setup().returncode == 0
