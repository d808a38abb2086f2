"""cloud-init/boot.sh refuses what it cannot verify, and applies the failure policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import Machine, broken, located, tarball


def test_a_wrong_checksum_is_refused(machine: Machine, tmp_path: Path) -> None:
    source = tarball(tmp_path / "b.tar.gz")
    stderr = broken(machine, f"{source[:-4]}0000")
    assert "BETA9_SOURCE: wrong checksum of " in stderr
    assert not list((machine.opt / "releases").iterdir())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.com/b.tar.gz", "has no checksum"),
        ("https://example.com/b.tar.gz#sha256=abc", "has no checksum"),
        (f"https://example.com/b.tar.gz#md5={'0' * 64}", "has no checksum"),
        (f"ftp://example.com/b.tar.gz#sha256={'0' * 64}", "is not a valid location"),
        (f"b.tar.gz#sha256={'0' * 64}", "is not a valid location"),
        (f"--output=x#sha256={'0' * 64}", "is not a valid location"),
        (f"/not/here.tar.gz#sha256={'0' * 64}", "cannot read"),
        (f"file:///not/here.tar.gz#sha256={'0' * 64}", "cannot read"),
        ("", "no bootstrap to run"),
    ],
)
def test_a_location_that_cannot_be_used_is_named(machine: Machine, source: str, message: str) -> None:
    assert message in broken(machine, source)


def test_a_file_that_is_not_a_release_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "no").write_text("no tarball")
    broken(machine, located(str(tmp_path / "no"), tmp_path / "no"))
    assert "has no bootstrap/install.sh" in broken(machine, tarball(tmp_path / "empty.tar.gz", None))


def test_checksums_are_case_insensitive(machine: Machine, tmp_path: Path) -> None:
    url, _, checksum = tarball(tmp_path / "b.tar.gz").rpartition("=")
    machine.settings({"BETA9_SOURCE": f"{url}={checksum.upper()}"})
    assert machine.boot().returncode == 0


def test_without_worker_env_the_missing_settings_are_named(machine: Machine) -> None:
    done = machine.boot()
    assert done.returncode == 1
    assert "set BETA9_SOURCE or BETA9_AGENT_IMAGE in" in done.stderr


# --- The failure policy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "times"), [("poweroff", 1), ("keep", 0), ("", 0)])
def test_a_failed_boot_powers_off_only_if_that_is_configured(
    machine: Machine, policy: str, times: int
) -> None:
    broken(machine, "/nowhere", BETA9_ON_FAILURE=policy)
    assert len(machine.called("poweroff")) == times


def test_a_machine_whose_agent_is_running_is_never_powered_off(machine: Machine) -> None:
    machine.settings({"BETA9_SOURCE": "/nowhere", "BETA9_ON_FAILURE": "poweroff"})
    assert machine.boot(WORKER_ACTIVE="0").returncode == 1
    assert machine.called("systemctl") == ["systemctl -q is-active beta9-worker"]
    assert machine.called("poweroff") == []


def test_an_unexpected_error_powers_off_as_well(machine: Machine, tmp_path: Path) -> None:
    machine.stand_in("tar", "exit 2")
    stderr = broken(machine, tarball(tmp_path / "b.tar.gz"), BETA9_ON_FAILURE="poweroff")
    assert "unexpected error" in stderr
    assert len(machine.called("poweroff")) == 1


def test_a_failed_installer_handles_its_own_failure(machine: Machine, tmp_path: Path) -> None:
    """The installer applies the failure policy itself, and writes a more detailed record."""
    source = tarball(tmp_path / "b.tar.gz", "exit 9\n")
    machine.settings({"BETA9_SOURCE": source, "BETA9_ON_FAILURE": "poweroff"})
    done = machine.boot()
    assert done.returncode == 9
    assert machine.called("poweroff") == []
    assert not (machine.root / "var/lib/beta9-worker/bootstrap.json").exists()
