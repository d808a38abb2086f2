"""Inputs for building the agent's image on a machine without access to a registry, Debian mirror or package index."""

from __future__ import annotations

from tests import ROOT
from tests.machine.checksum import sha256_of
from tests.machine.mirrors import Mirrors

BUILD = ROOT / ".build"
BASE = BUILD / "machine-base.tar"
"""Made by scripts/machine_base.sh: Debian with the packages that the Dockerfile installs, and no package sources."""
WHEELS = BUILD / "machine-wheels"
"""Made by scripts/machine_wheels.sh."""
BASE_NAME = "site/base:bookworm"
"""The name of the image in BASE."""


def missing() -> str | None:
    """Return why the inputs cannot be mirrored here, or None."""
    absent = [path.name for path in (BASE, WHEELS) if not path.exists()]
    return f"{absent[0]} does not exist: make .build/{absent[0]}" if absent else None


def mirror(mirrors: Mirrors, host: str) -> dict[str, str]:
    """Add the inputs to the mirrors; return the settings of a machine that reaches the mirrors at `host`."""
    mirrors.files["base.tar"] = BASE
    mirrors.wheels = WHEELS
    place = f"http://{host}:{mirrors.port}"
    return {
        "BETA9_BASE_IMAGE": f"{place}/base.tar#sha256={sha256_of(BASE)}",
        "BETA9_PIP_INDEX_URL": f"{place}/simple/",
        "BETA9_PIP_TRUSTED_HOST": host,
    }
