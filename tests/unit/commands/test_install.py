"""`install`: what it refuses, what it puts on the host, and the environment that it hands on.

The run as a whole is tested by tests/container/test_install.py.
"""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest

from agent.commands import install
from agent.errors import SettingsError
from agent.provisioning.release_tree import content_name, put_release


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tree = tmp_path / "bundle"
    (tree / "bootstrap").mkdir(parents=True)
    (tree / "bootstrap/install.sh").write_text("#!/bin/bash\n", encoding="utf-8")
    (tree / "bootstrap/install.sh").chmod(0o755)
    return tree


def arguments(host: Path, **given: object) -> Namespace:
    return Namespace(**{"host": host, "env_file": install.ENV_FILE, "dry_run": False, **given})


# --- The release ------------------------------------------------------------------------------------------


def test_a_release_is_put_once_and_pointed_to(bundle: Path, tmp_path: Path) -> None:
    opt = tmp_path / "opt"
    name = put_release(bundle, opt, {"agent-image": "sha256:1\n"})
    assert (opt / "current").readlink() == Path("releases", name)
    assert os.access(opt / "current/bootstrap/install.sh", os.X_OK)
    inode = (opt / "current/bootstrap/install.sh").stat().st_ino
    assert put_release(bundle, opt, {"agent-image": "sha256:2\n"}) == name
    assert (opt / "current/bootstrap/install.sh").stat().st_ino == inode
    assert (opt / "current/agent-image").read_text(encoding="utf-8") == "sha256:2\n"
    assert [path.name for path in (opt / "releases").iterdir()] == [name]


def test_another_release_is_pointed_to_and_the_old_one_stays(bundle: Path, tmp_path: Path) -> None:
    old = put_release(bundle, tmp_path / "opt", {})
    (bundle / "bootstrap/install.sh").write_text("#!/bin/bash\ntrue\n", encoding="utf-8")
    new = put_release(bundle, tmp_path / "opt", {})
    assert (tmp_path / "opt/current").readlink() == Path("releases", new)
    assert (tmp_path / "opt/releases" / old / "bootstrap/install.sh").is_file()


def test_a_name_stands_for_contents_paths_and_modes(bundle: Path) -> None:
    names = {content_name(bundle)}
    (bundle / "bootstrap/install.sh").chmod(0o644)
    names.add(content_name(bundle))
    (bundle / "bootstrap/install.sh").rename(bundle / "bootstrap/other.sh")
    names.add(content_name(bundle))
    os.utime(bundle / "bootstrap/other.sh", (0, 0))
    assert content_name(bundle) in names
    assert len(names) == 3


# --- What it refuses --------------------------------------------------------------------------------------


def test_outside_the_image_it_says_where_it_works(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        install.run(arguments(tmp_path / "host"))
    assert "works only in the image" in refused.value.problems[0]
    assert install.LINE in refused.value.problems[1]


@pytest.mark.parametrize("env_file", ["/etc/beta9-worker/worker.env", "worker.env"])
def test_settings_that_the_host_lacks_are_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_file: str
) -> None:
    monkeypatch.setattr(install, "BUNDLE", bundle)
    monkeypatch.setattr(install, "_has_host_init", lambda _: True)
    (tmp_path / "host/etc").mkdir(parents=True)
    with pytest.raises(SettingsError, match=f"^{env_file} does not exist on the host"):
        install.run(arguments(tmp_path / "host", env_file=env_file))


def test_a_directory_that_is_not_the_first_process_s_root_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "BUNDLE", bundle)
    (tmp_path / "host/etc").mkdir(parents=True)
    with pytest.raises(SettingsError, match="process 1 is not the host's"):
        install.run(arguments(tmp_path / "host"))


# --- What it hands on -------------------------------------------------------------------------------------


def test_variables_become_an_environment_file_of_systemd_s() -> None:
    text = install.environment_file({"BETA9_B": 'a "quoted" $HOME `x` \\', "BETA9_A": "plain"})
    assert text == 'BETA9_A="plain"\nBETA9_B="a \\"quoted\\" \\$HOME \\`x\\` \\\\"\n'


def test_a_key_of_several_lines_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="BETA9_SSH_KEY has several lines") as refused:
        install.environment_file({"BETA9_SSH_KEY": "-----BEGIN\nsecret"})
    assert "secret" not in str(refused.value)


def test_a_container_without_docker_s_mounts_has_no_image_to_name() -> None:
    assert install._own_image("140 122 254:0 / / rw - ext4 /dev/vda rw\n") == ""
