"""Build the k3s stand-in (tests/machine/k3s/): a single executable file that contains the Kubernetes programs.

It is a Python zip archive, compressed because it is unpacked only once, while its checksum is computed a dozen times in
the life of a machine, at 20 MB/s on an emulated processor.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

from tests import ROOT

SOURCE = Path(__file__).parent / "k3s"
INSTALL_SCRIPT = SOURCE / "install.sh"
SERVER = ROOT / ".build" / "kubernetes-server"
KUBECTL = ROOT / ".build" / "kubectl"
VERSION = "v1.34.4+k3s1"
"""The version that it reports: that of the Kubernetes programs in it, as k3s's first release of it."""
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = "import sys\nfrom k3s.program import main\nsys.exit(main())\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def missing() -> str | None:
    """Return why it cannot be built here, or None."""
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
    # Opened by name, it gets the archive's compression, and the oldest possible time instead of the file's.
    with path.open("rb") as source, archive.open(name, "w") as target:
        shutil.copyfileobj(source, target, io.DEFAULT_BUFFER_SIZE * 64)
