"""Whether NVIDIA's management library is on this machine, found out without loading it."""

from __future__ import annotations

import os
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
)
MISSING_DRIVER = (
    f"an NVIDIA device is here, but {LIBRARY} is not: install the driver; "
    "for the agent's container, run it with --gpus all"
)


def library_found(root: Path = Path("/")) -> bool:
    """Whether the dynamic linker would find it: by its cache, in LD_LIBRARY_PATH, or where drivers put it."""
    searched = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *DIRECTORIES]
    if any((root / directory.lstrip("/") / LIBRARY).exists() for directory in searched if directory):
        return True
    try:
        return LIBRARY.encode() in (root / "etc/ld.so.cache").read_bytes()
    except OSError:
        return False


def device_found(root: Path = Path("/")) -> bool:
    """Whether there is an NVIDIA display device (PCI vendor 10de, class 03xx), or a loaded driver."""
    if (root / "proc/driver/nvidia/version").exists():
        return True
    return any(
        _first_word(device / "vendor") == "0x10de" and _first_word(device / "class").startswith("0x03")
        for device in (root / "sys/bus/pci/devices").glob("*")
    )


def _first_word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
