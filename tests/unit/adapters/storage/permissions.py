"""Permission bits, and whether this test run may change owners."""

from __future__ import annotations

import os
import stat
from pathlib import Path

AS_ROOT = os.geteuid() == 0


def mode(path: Path) -> int:
    """Return the permission bits of a file or directory."""
    return stat.S_IMODE(path.stat().st_mode)
