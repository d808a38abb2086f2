"""The files in cloud-init/: what a person pastes is what the command renders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from agent.core.provisioning.user_data import start_script
from tests.unit.provisioning.user_data_cases import CLOUD_INIT

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
    assert len(USER_DATA.read_bytes()) < 14_000, "AWS takes 16384 bytes, uncompressed, with all settings"
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


def test_the_scripts_please_shellcheck_where_they_are_embedded_too(tmp_path: Path) -> None:
    [script] = [each for each in config()["write_files"] if each["path"].endswith("boot.sh")]
    (tmp_path / "embedded.sh").write_text(script["content"])
    settings = {"BETA9_POOL_NAME": "gpu", "BETA9_SSH_KNOWN_HOSTS": "a $b `c`\n\nd"}
    text = start_script(HEAD.read_text(), BOOT.read_text(), settings)
    (tmp_path / "start-up.sh").write_text(text)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [str(shellcheck), *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == ""
    assert done.returncode == 0
