"""The files of cloud-init/, wherever this program is installed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from agent.errors import SettingsError

PLACES = (
    Path(__file__).parents[2] / "cloud-init",
    Path("/opt/beta9-worker/cloud-init"),
    Path("/opt/beta9-worker/current/cloud-init"),
    Path(sys.prefix) / "share/beta9-worker/cloud-init",
)
"""In a checkout or source tree, the agent's image, a machine with the bootstrap, or an installed package."""


@dataclass(frozen=True)
class Templates:
    """The text of each file, unchanged."""

    user_data: str
    script_head: str
    boot: str
    release: str
    """worker.env lines that name the release; empty in a checkout between releases."""


def read_templates(places: tuple[Path, ...] = PLACES) -> Templates:
    """Return the templates from the first place that has them. Raises: SettingsError."""
    for place in places:
        if (place / "user-data.yaml").is_file():
            names = ("user-data.yaml", "script-head.sh", "boot.sh", "release.env")
            return Templates(*(read_text(place / name) for name in names))
    where = ", ".join(str(place) for place in places)
    raise SettingsError(
        f"no cloud-init/user-data.yaml in any of {where}; run this from a checkout or in the image"
    )


def read_text(path: Path) -> str:
    """Return a file's text. Raises: SettingsError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeError as error:
        raise SettingsError(f"{path} cannot be read (it is not UTF-8 text); give another file") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); give another file") from error
