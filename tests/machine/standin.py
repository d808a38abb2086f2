"""Builds the k3s stand-in (tests/machine/k3s/): one executable file with the Kubernetes programs inside.

A Python archive. Compressed: it is unpacked once, and its checksum is taken a dozen times in the life of a machine, at
20 MB/s on an emulated processor.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "k3s"
INSTALL_SCRIPT = SOURCE / "install.sh"
SERVER = ROOT / ".build" / "kubernetes-server"
KUBECTL = ROOT / ".build" / "kubectl"
VERSION = "v1.34.4+k3s1"
"""What it says it is: the version of Kubernetes in it, and k3s's first release of that."""
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = "import sys\nfrom k3s.program import main\nsys.exit(main())\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def missing() -> str | None:
    """Why it cannot be built here, or None."""
    for program in (SERVER, KUBECTL):
        if not program.exists():
            return f"{program.name} is not built: make .build/{program.name}"
    return None if shutil.which("etcd") else "etcd is not installed: apt-get install etcd-server"


def build_k3s(target: Path) -> Path:
    """Write the program to `target`. The same inputs give the same bytes."""
    etcd = shutil.which("etcd")
    assert etcd is not None
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            for source in sorted(SOURCE.glob("*.py")):
                _add(archive, f"k3s/{source.name}", source)
            archive.writestr(zipfile.ZipInfo("__main__.py", _LONG_AGO), _MAIN)
            archive.writestr(zipfile.ZipInfo("VERSION", _LONG_AGO), f"{VERSION}\n")
            for name, program in (("kubernetes-server", SERVER), ("etcd", Path(etcd)), ("kubectl", KUBECTL)):
                _add(archive, f"bin/{name}", program)
    partial.chmod(0o755)
    partial.replace(target)
    return target


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    # By its name: the archive's compression counts, and the time is the oldest that there is.
    with path.open("rb") as source, archive.open(name, "w") as target:
        shutil.copyfileobj(source, target, io.DEFAULT_BUFFER_SIZE * 64)
