"""The NoCloud seed: the data that a cloud gives to a new machine, on a small disk labelled `cidata`.

The user-data comes from the customer. The cloud adds meta-data, with the name and the login key, and vendor-data, its
presets for all machines.
"""

from __future__ import annotations

import json
from pathlib import Path

from agent.adapters.process.run import run

PRESETS = {"manage_etc_hosts": True}
"""As in Debian's cloud images; otherwise every sudo looks up the machine's name in DNS."""


def make_seed(directory: Path, user_data: str, public_key: str, name: str = "worker") -> Path:
    """Write the files and the disk image; return the image's path."""
    directory.mkdir(parents=True, exist_ok=True)
    meta = {"instance-id": f"{name}-1", "local-hostname": name, "public-keys": [public_key]}
    files = {
        "user-data": user_data,
        "meta-data": json.dumps(meta) + "\n",  # JSON is valid YAML
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
