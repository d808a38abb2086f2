"""A copy of this machine to run steps on: an overlay over `/` in its own mount and network namespaces.

Its apt, dpkg, bash and files are real, and all changes are discarded with it. Output of GPU tools comes from
tests/shell/recorded. Programs that must not run here (systemd, modprobe, k3s) are stand-ins that log their calls
(tests/shell/standins).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
BOOTSTRAP = HERE.parents[1] / "bootstrap"

CLEAN = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}

requires_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="an overlay over / needs root and util-linux"
)


@dataclass(frozen=True)
class StepResult:
    """How a step ended. `code` is 0 if done, 10 if skipped, 11 if it requests a reboot, else it failed."""

    code: int
    reason: str
    fix: str
    changes: tuple[str, ...]
    output: str


class Throwaway:
    """The copy. `path` gives access to it from outside."""

    def __init__(self, work: Path, holder: subprocess.Popen[str]) -> None:
        self._work = work
        self._holder = holder
        self.root = work / "mnt"

    def path(self, inside: str) -> Path:
        """Return a path from outside the namespaces, through /proc of the process that holds them."""
        return Path(f"/proc/{self._holder.pid}/root{self.root}") / inside.lstrip("/")

    def read(self, inside: str) -> str:
        file = self.path(inside)
        return file.read_text() if file.exists() else ""

    def write(self, inside: str, content: str, mode: int = 0o644) -> None:
        file = self.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    def run(self, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(command),
            env={**CLEAN, **(env or {})},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    @contextmanager
    def background(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a program beside others, until the block ends. It must print a line once it is ready."""
        with subprocess.Popen(
            self._inside(command), env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline(), command
                yield process
            finally:
                process.kill()

    def _inside(self, command: tuple[str, ...]) -> tuple[str, ...]:
        holder = str(self._holder.pid)
        return ("nsenter", "--target", holder, "--mount", "--net", "chroot", str(self.root), *command)

    def step(self, name: str, **settings: str) -> StepResult:
        """Run steps/NN-NAME.sh like the installer does."""
        (script,) = BOOTSTRAP.glob(f"steps/[0-9][0-9]-{name}.sh")
        scratch = f"/tmp/run-{uuid.uuid4().hex}"
        self.path(scratch).mkdir()
        env = {
            "BETA9_BOOTSTRAP": "/bootstrap",
            "BETA9_RUN": scratch,
            "BETA9_STAGE": name,
            "BETA9_CONSOLE": "/tmp/console",
            "BETA9_POLL": "0.1",
            "BETA9_GPU_TIMEOUT": "1",
            **settings,
        }
        done = self.run("bash", f"/bootstrap/steps/{script.name}", env=env)
        files = {kind: self.read(f"{scratch}/{name}.{kind}").strip() for kind in ("reason", "fix", "changes")}
        return StepResult(
            done.returncode,
            files["reason"],
            files["fix"],
            tuple(files["changes"].splitlines()),
            done.stdout + done.stderr,
        )

    def installed(self, package: str) -> str:
        """Return the package's version, or "" if it is not installed."""
        done = self.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package)
        return done.stdout[3:] if done.stdout.startswith(("ii", "hi")) else ""

    def called(self, program: str) -> list[str]:
        """Return the arguments of each call of a stand-in, in order."""
        return self.read(f"/standin/{program}.calls").splitlines()

    def recorded(self, name: str, as_name: str) -> None:
        self.write(f"/standin/{as_name}", (RECORDED / name).read_text())

    def pci(self, name: str, vpd: dict[str, str] | None = None) -> None:
        """Create the devices of a recorded `lspci -Dnn` in sysfs."""
        shutil.rmtree(self.path("/sys/bus/pci/devices"), ignore_errors=True)
        line = re.compile(r"^(\S+) .*?\[([0-9a-f]{4})\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]")
        for text in (RECORDED / name).read_text().splitlines():
            match = line.match(text)
            assert match, text
            address, kind, vendor, device = match.groups()
            for file, value in (
                ("class", f"0x{kind}00"),
                ("vendor", f"0x{vendor}"),
                ("device", f"0x{device}"),
            ):
                self.write(f"/sys/bus/pci/devices/{address}/{file}", value + "\n")
            if vpd and address in vpd:
                self.write(f"/sys/bus/pci/devices/{address}/vpd", vpd[address])

    def reboot(self) -> None:
        """Simulate a reboot: a new boot id, no module loaded, /dev/char empty; installed modules can now be loaded."""
        self.write("/standin/boot_id", f"{uuid.uuid4()}\n")
        for path in ("/sys/module", "/dev/char"):
            shutil.rmtree(self.path(path), ignore_errors=True)
        self.path("/standin/next-kernel-only").unlink(missing_ok=True)


@contextmanager
def throwaway(work: Path, repositories: Path, release: str) -> Iterator[Throwaway]:
    """Yield a fresh copy that is release `release` (debian-12, …) and installs from `repositories`/distribution."""
    for name in ("upper", "work", "mnt"):
        (work / name).mkdir(parents=True)
    script = f"""
        set -e
        mount -t tmpfs tmpfs {work}/upper; mkdir {work}/upper/u {work}/upper/w
        mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper/u,workdir={work}/upper/w {work}/mnt
        cd {work}/mnt
        rm -rf etc/apt/sources.list etc/apt/sources.list.d/* etc/apt/preferences.d/* etc/apt/keyrings/*
        mkdir -p bootstrap repository standin etc/apt/keyrings run/systemd/system sys/fs/cgroup dev/char proc
        echo cpuset cpu io memory pids > sys/fs/cgroup/cgroup.controllers
        mount --rbind {BOOTSTRAP} bootstrap; mount --bind {repositories} repository
        mount -t proc proc proc
        cat /proc/sys/kernel/random/boot_id > standin/boot_id
        mount --bind standin/boot_id proc/sys/kernel/random/boot_id
        for each in null zero random urandom; do
            rm -f dev/$each; touch dev/$each; mount --bind /dev/$each dev/$each
        done
        ln -sfn /proc/self/fd dev/fd
        echo 'deb [trusted=yes] file:/repository/distribution /' > etc/apt/sources.list
        echo 'APT::Sandbox::User "root";' > etc/apt/apt.conf.d/99tests
        cp {HERE}/standins/* usr/local/bin/
        rm -f etc/os-release; cp {RECORDED}/os-release-{release} etc/os-release
        cp {RECORDED}/smi-failed {RECORDED}/smi-mismatch standin/
        echo ready; exec sleep 100000
    """
    holder = subprocess.Popen(
        ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert holder.stdout is not None
        first = holder.stdout.readline()
        assert first == "ready\n", first + holder.stdout.read()
        yield Throwaway(work, holder)
    finally:
        holder.kill()
        holder.communicate()
