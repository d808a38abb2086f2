"""The NoCloud medium: what a cloud hands to a new machine, on a small disk named `cidata`.

The user-data is the customer's. Of the cloud's own part, meta-data has the name and the login key, and vendor-data
what a cloud presets for all its machines.
"""

from __future__ import annotations

import json
from pathlib import Path

from agent.adapters.process.run import run

PRESETS = {"manage_etc_hosts": True}
"""As Debian's own cloud images have it: else each sudo looks the machine's name up in the network."""


def make_seed(directory: Path, user_data: str, public_key: str, name: str = "worker") -> Path:
    """Write the files and the medium; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    meta = {"instance-id": f"{name}-1", "local-hostname": name, "public-keys": [public_key]}
    files = {
        "user-data": user_data,
        "meta-data": json.dumps(meta) + "\n",  # JSON is YAML, too
        "vendor-data": "#cloud-config\n" + json.dumps(PRESETS) + "\n",
    }
    for file, text in files.items():
        (directory / file).write_text(text, encoding="utf-8")
    medium = directory / "seed.iso"
    paths = [str(directory / file) for file in files]
    run(
        ["genisoimage", "-quiet", "-output", str(medium), "-volid", "cidata", "-joliet", "-rock", *paths],
        timeout_s=60,
    )
    return medium
