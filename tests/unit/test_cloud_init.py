"""The files in cloud-init/ as they stand: what is pasted is what is rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CLOUD_INIT = Path(__file__).parents[2] / "cloud-init"
USER_DATA = CLOUD_INIT / "user-data.yaml"
BOOT = CLOUD_INIT / "boot.sh"
HEAD = CLOUD_INIT / "script-head.sh"


def config() -> dict[str, Any]:
    loaded = yaml.safe_load(USER_DATA.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def test_the_boot_script_in_the_user_data_is_the_boot_script() -> None:
    [script] = [each for each in config()["write_files"] if each["path"].endswith("boot.sh")]
    assert script["content"] == BOOT.read_text(encoding="utf-8")
    assert config()["runcmd"] == [["bash", script["path"]]]


def test_the_user_data_leaves_room_and_is_ascii() -> None:
    assert len(USER_DATA.read_bytes()) < 6000
    for path in (USER_DATA, BOOT, HEAD):
        path.read_bytes().decode("ascii")


def test_settings_lie_between_two_markers_and_only_their_owner_reads_them() -> None:
    lines = USER_DATA.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() in {"# settings", "# end of settings"}] == [
        "      # settings",
        "      # end of settings",
    ]
    lines = HEAD.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in {"# settings", "# end of settings"}] == [
        "# settings",
        "# end of settings",
    ]
    [settings] = [each for each in config()["write_files"] if each["path"].endswith("worker.env")]
    assert settings["permissions"] == "0600"
