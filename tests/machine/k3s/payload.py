"""The programs inside the single executable, unpacked into DATA_DIR/data/VERSION/bin, similar to k3s."""

from __future__ import annotations

import fcntl
import shutil
import sys
import zipfile
from pathlib import Path

PROGRAMS = ("kubernetes-server", "etcd", "kubectl")


def version() -> str:
    """Return the version that was set when the file was built."""
    with zipfile.ZipFile(own_file()) as archive:
        return archive.read("VERSION").decode().strip()


def own_file() -> Path:
    """Return this program's own file: the archive that Python runs."""
    return Path(sys.path[0])


def unpacked(data_dir: Path) -> Path:
    """Return the directory of the programs, unpacking them at the first call; concurrent callers wait."""
    directory = data_dir / "data" / version() / "bin"
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with (directory.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not directory.exists():
                _fill(directory)
    return directory


def _fill(directory: Path) -> None:
    partial = directory.with_name("bin.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with zipfile.ZipFile(own_file()) as archive:
        for program in PROGRAMS:
            with archive.open(f"bin/{program}") as source, (partial / program).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            (partial / program).chmod(0o755)
    partial.rename(directory)
