"""A host that real systemd has booted: its PID 1 in namespaces of its own, on a copy of this machine's files.

What it writes goes to memory (overlayfs) and is gone afterwards. It starts nothing but the unit that is given to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT
from tests.integration.ssh_client import DEADLINE_S

SYSTEMD = Path("/lib/systemd/systemd")

_BOOT = r"""
set -eu
base=$1 repository=$2 root=$1/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/repository" "$root/result"
mount --bind "$repository" "$root/repository"
mount --bind "$3" "$root/result"
rm -rf "$root"/etc/systemd/system/*
cp "$3/scenario.sh" "$root/scenario.sh"
cat >"$root/etc/systemd/system/scenario.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=systemd-journald.service
[Service]
Type=oneshot
ExecStart=/bin/bash /scenario.sh
StandardOutput=file:/result/output
StandardError=file:/result/errors
ExecStopPost=/bin/systemctl --force --force poweroff
UNIT
ip link set lo up
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot "$root" /lib/systemd/systemd --system --unit=scenario.service --show-status=no --log-target=null </dev/null
"""


def why_not() -> str | None:
    """Return why systemd cannot be booted here, or None."""
    if os.geteuid() != 0:
        return "booting systemd in namespaces needs root"
    missing = [name for name in ("systemctl", "unshare", "chroot") if shutil.which(name) is None]
    if missing or not SYSTEMD.exists():
        return "not on this host: systemd"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        return "the kernel has no overlayfs"
    return None if _cgroup2() else "no cgroup2 is mounted"


def boot(directory: Path, scenario: str) -> dict[str, str]:
    """Boot, run a bash script there as a service, and return the NAME=VALUE lines that it prints."""
    (directory / "scenario.sh").write_text(scenario, encoding="utf-8")
    base = directory / "host"
    base.mkdir()
    with _own_cgroup(directory.name) as cgroup:
        enter = f'echo $$ >{cgroup}/cgroup.procs && exec "$@"'
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--cgroup", "--ipc", "--uts"]
        command = ["sh", "-c", enter, "sh", *namespaces, "bash", "-c", _BOOT, "bash"]
        # The exit code is that of a power-off, whatever the scenario's.
        subprocess.run(
            [*command, str(base), str(ROOT), str(directory)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_S * 3,
            check=False,
        )
    output = directory / "output"
    assert output.exists(), "systemd did not start the scenario"
    lines = [line.partition("=") for line in output.read_text(encoding="utf-8").splitlines()]
    return {name: value for name, equals, value in lines if equals}


def _cgroup2() -> Path | None:
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    return next((Path(line.split()[1]) for line in mounts if line.split()[2] == "cgroup2"), None)


@contextmanager
def _own_cgroup(name: str) -> Iterator[Path]:
    """Create a cgroup, which becomes the root of all that systemd sees, and remove it with what systemd made there."""
    parent = _cgroup2()
    assert parent is not None
    cgroup = parent / f"test-{os.getpid()}-{name}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        for each in sorted(cgroup.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            if each.is_dir():
                each.rmdir()
        cgroup.rmdir()
