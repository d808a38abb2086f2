"""A place where bootstrap/gateway/setup.sh can make its changes, and a real sshd that uses them."""

from __future__ import annotations

import contextlib
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from agent.demo.sshd.program import find_sshd
from agent.demo.sshd.throwaway import ThrowAwaySshd
from tests.integration.gateway_host.check_program import GATEWAY
from tests.integration.ssh_client import DEADLINE_S, wait_until


@dataclass(frozen=True)
class Site:
    """A directory like /etc/ssh (writable by root only, for StrictModes), and an unused user name."""

    directory: Path
    user: str
    port: int

    @property
    def config(self) -> Path:
        return self.directory / "sshd_config"

    @property
    def drop_in(self) -> Path:
        return self.directory / "sshd_config.d" / f"50-{self.user}.conf"

    def setup(self, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """Run setup.sh, with `path` in place of the usual PATH."""
        command = [str(GATEWAY / "setup.sh"), "--sshd-config", str(self.config), "--user", self.user]
        environment = {"PATH": path or f"{Path(find_sshd()).parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(
            [*command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def files_and_account(self) -> dict[str, str]:
        """Return the current state of everything that setup.sh creates: text by path, and the account."""
        files = [*self.directory.rglob("*"), *Path(f"/var/lib/{self.user}").rglob("*")]
        found = {
            str(path): path.read_text() for path in files if path.is_file() and "host_key" not in path.name
        }
        accounts = [repr(entry) for entry in pwd.getpwall() if entry.pw_name == self.user]
        return {**found, **dict(zip(["account"], accounts, strict=False))}


class SiteSshd:
    """A real sshd with a site's configuration; `Ssh` can use it like a throw-away one."""

    host = "127.0.0.1"

    def __init__(self, site: Site, key: Path) -> None:
        self.port, self.user, self.key_path = site.port, site.user, key
        self.known_hosts_path = site.directory / "known_hosts"
        public = (site.directory / "host_key.pub").read_text()
        self.known_hosts_path.write_text(f"[127.0.0.1]:{site.port} {public}")
        self._log = site.directory / "log"
        self.process = subprocess.Popen([find_sshd(), "-D", "-f", str(site.config), "-E", str(self._log)])
        wait_until(lambda: "Server listening" in self.log(), "sshd")

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def __enter__(self) -> ThrowAwaySshd:
        return self  # type: ignore[return-value]

    def __exit__(self, *_: object) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself meanwhile
                child.kill()
        self.process.kill()
        self.process.wait()
