"""Finds out whether NVIDIA's management library is installed, without loading it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
    f"there is an NVIDIA device but no {LIBRARY}: install or load the driver ('modprobe nvidia', 'dmesg' says why it "
    "fails); run the agent's container with --gpus all"
)


def library_found(root: Path = Path("/")) -> bool:
    """Return whether the library is in the linker's cache, in LD_LIBRARY_PATH, or where drivers install it."""
    directories = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *DIRECTORIES]
    if any((root / directory.lstrip("/") / LIBRARY).exists() for directory in directories if directory):
        return True
    try:
        return LIBRARY.encode() in (root / "etc/ld.so.cache").read_bytes()
    except OSError:
        return False


def driver_loaded(root: Path = Path("/")) -> bool:
    """Return whether the kernel has NVIDIA's driver loaded; containers see the host's."""
    return (root / "proc/driver/nvidia/version").exists()


def driver_watch(environment: Mapping[str, str], root: Path = Path("/")) -> Callable[[], bool]:
    """Return a function that tells whether the driver was loaded since now; never so without a service manager.

    It is asked in order to end the agent, so something must start it again: systemd sets INVOCATION_ID, which the unit
    passes on.
    """
    if "INVOCATION_ID" not in environment or driver_loaded(root):
        return lambda: False
    return lambda: driver_loaded(root)


def device_found(root: Path = Path("/")) -> bool:
    """Return whether there is an NVIDIA display device (PCI vendor 10de, class 03xx) or a loaded driver."""
    return driver_loaded(root) or any(
        _read_stripped(device / "vendor") == "0x10de" and _read_stripped(device / "class").startswith("0x03")
        for device in (root / "sys/bus/pci/devices").glob("*")
    )


def _read_stripped(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
