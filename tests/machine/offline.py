"""What the agent's image is built from on a machine that reaches no registry, no Debian mirror and no package index."""

from __future__ import annotations

from pathlib import Path

from tests.machine.checksum import sha256_of
from tests.machine.mirrors import Mirrors

BUILD = Path(__file__).parents[2] / ".build"
BASE = BUILD / "machine-base.tar"
"""scripts/machine_base.sh's: Debian with what the Dockerfile installs, and no package sources."""
WHEELS = BUILD / "machine-wheels"
"""scripts/machine_wheels.sh's."""
BASE_NAME = "site/base:bookworm"
"""The image in it."""


def missing() -> str | None:
    """Why that cannot be mirrored here, or None."""
    absent = [made.name for made in (BASE, WHEELS) if not made.exists()]
    return f"{absent[0]} is not there: make .build/{absent[0]}" if absent else None


def mirror(mirrors: Mirrors, host: str) -> dict[str, str]:
    """Have it mirrored; return the settings of a machine that reaches the mirrors at `host`."""
    mirrors.files["base.tar"] = BASE
    mirrors.wheels = WHEELS
    place = f"http://{host}:{mirrors.port}"
    return {
        "BETA9_BASE_IMAGE": f"{place}/base.tar#sha256={sha256_of(BASE)}",
        "BETA9_PIP_INDEX_URL": f"{place}/simple/",
        "BETA9_PIP_TRUSTED_HOST": host,
    }
