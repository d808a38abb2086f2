"""A machine to install on that is a directory: real bash, real steps, and real files under its own root.

Stand-ins (`stubs/`) replace only what would change this host or is missing here: systemd, apt, Docker, k3s, nft, disks.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import ROOT

BOOTSTRAP = ROOT / "bootstrap"
STUBS = Path(__file__).parent / "stubs"
DATA = Path(__file__).parents[1] / "recorded"
QUIET = (
    "nft",
    "ip",
    "apt-mark",
    "udevadm",
    "journalctl",
    "ufw",
    "ss",
    "mkfs.ext4",
    "blkid",
    "wipefs",
    "lsblk",
)
KERNEL = {
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc",
    "proc/sys/fs/inotify/max_user_instances": "128",
    "proc/sys/fs/inotify/max_user_watches": "1048576",
}
"""What a current kernel shows, by path."""
BOOT_ID = "00000000-0000-0000-0000-000000000001"


@dataclass
class Host:
    """`root` is the machine's root directory; the stand-ins keep their state and logs in `state`."""

    directory: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.directory / "root"
        self.state = self.directory / "stand-ins"
        self.console = self.directory / "console"
        self.bin = self.directory / "bin"
        self.env_file = self.root / "etc/beta9-worker/worker.env"
        for path in (
            "run/systemd/system",
            "sys/bus/pci/devices",
            "etc/ssl/certs",
            "etc/beta9-worker",
            "etc/systemd/system",
        ):
            (self.root / path).mkdir(parents=True)
        for path in ("usr/local/bin", "var/lib", "var/log", "proc/sys/kernel/random"):
            (self.root / path).mkdir(parents=True)
        for path, content in KERNEL.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(f"{content}\n")
        (self.root / "etc/ssl/certs/ca-certificates.crt").write_text("certificates\n")
        (self.root / "etc/os-release").write_text((DATA / "os-release-debian-12").read_text())
        self.boot(BOOT_ID)
        self.state.mkdir()
        (self.state / "installed").write_text("base-files\n")
        (self.state / "docker-here").touch()
        self.bin.mkdir()
        for stub in STUBS.iterdir():
            if stub.name not in {"quiet", "k3s", "k3s-install.sh"}:
                (self.bin / stub.name).symlink_to(stub)
        for name in QUIET:
            (self.bin / name).symlink_to(STUBS / "quiet")
        archive = self.directory / "agent.tar"
        archive.write_bytes(b"an image")
        self.settings = {
            "BETA9_POOL_NAME": "gpu",
            "BETA9_TOKEN": "token-that-nobody-may-see",
            "BETA9_SCRATCH_DISK": "none",
            "BETA9_MIN_FREE_MIB": "1",
            "BETA9_K3S_URL": str(STUBS / "k3s"),
            "BETA9_K3S_SHA256": sha256(STUBS / "k3s"),
            "BETA9_K3S_INSTALL_URL": str(STUBS / "k3s-install.sh"),
            "BETA9_K3S_INSTALL_SHA256": sha256(STUBS / "k3s-install.sh"),
            "BETA9_AGENT_IMAGE": f"{archive}#sha256={sha256(archive)}",
            **self.settings,
        }

    def boot(self, boot_id: str) -> None:
        (self.root / "proc/sys/kernel/random/boot_id").write_text(boot_id + "\n")

    def write_settings(self, **changes: str) -> None:
        self.settings.update(changes)
        self.env_file.write_text("".join(f"{name}='{value}'\n" for name, value in self.settings.items()))

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "BETA9_ROOT": str(self.root),
            "BETA9_CONSOLE": str(self.console),
            "BETA9_BOOT_ID": str(self.root / "proc/sys/kernel/random/boot_id"),
            "BETA9_POLL": "0.1",
            "BETA9_RETRY_DELAY": "1",
            "STUB_STATE": str(self.state),
            "TMPDIR": str(self.directory),
            **(more or {}),
        }

    def install(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the installer with worker.env, which is written from `settings` unless it exists."""
        if not self.env_file.exists():
            self.write_settings()
        return self.bash(BOOTSTRAP / "install.sh", "--env-file", str(self.env_file), *arguments, env=env)

    def uninstall(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.bash(BOOTSTRAP / "uninstall.sh", *arguments)

    def bash(
        self, script: Path, *arguments: str, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a script; `within` is a command that runs another one in namespaces."""
        return subprocess.run(
            [*within, "bash", str(script), *arguments],
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def step(self, text: str, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run `text` as the body of a step."""
        script = self.directory / "10-body.sh"
        script.write_text(step_text(text))
        env = {"BETA9_BOOTSTRAP": str(BOOTSTRAP), "BETA9_ENV_FILE": self.settings_path()}
        return self.bash(script, env=env, within=within)

    def settings_path(self) -> str:
        return str(self.env_file) if self.env_file.exists() else ""

    def steps(self, **bodies: tuple[str, int, str]) -> Path:
        """Write steps to a directory and return it: name=(needs, deadline in seconds, body)."""
        directory = self.directory / "steps"
        directory.mkdir(exist_ok=True)
        for number, (name, (needs, deadline, body)) in enumerate(bodies.items(), start=10):
            (directory / f"{number}-{name}.sh").write_text(step_text(body, needs, deadline))
        return directory

    @property
    def timeline(self) -> Any:
        return json.loads((self.root / "var/lib/beta9-worker/bootstrap.json").read_text())

    def console_text(self) -> str:
        """Return the text on the console."""
        return self.console.read_text() if self.console.exists() else ""

    def calls(self, program: str) -> list[str]:
        """Return the arguments of each call of a stand-in, oldest first."""
        log = self.state / f"{program}.calls"
        return log.read_text().splitlines() if log.exists() else []

    def files(self) -> dict[str, str]:
        """Return all files except for the installer's logs and timeline: path → mode and checksum."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if name.startswith("var/log/beta9-worker/") or name == "var/lib/beta9-worker/bootstrap.json":
                continue
            content = sha256(path) if path.is_file() else "directory"
            found[name] = f"{path.lstat().st_mode:o} {content}"
        return found


def step_text(body: str, needs: str = "", deadline: int = 60) -> str:
    return (
        f"# needs: {needs}\n# deadline: {deadline}\n# fix: repair it\nset -Eeuo pipefail\n"
        f'. "$BETA9_BOOTSTRAP/lib/step.sh"\nmain() {{\n{body}\n}}\nmain "$@"\n'
    )


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
