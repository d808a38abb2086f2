"""What boot.sh makes of worker.env as people write it: where the bootstrap is, and what to do if it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import Machine, tarball

NOT_HERE = f"BETA9_SOURCE=/not/here.tar.gz#sha256={'0' * 64}\n"


def write(machine: Machine, text: str) -> None:
    machine.settings({})
    (machine.root / "etc/beta9-worker/worker.env").write_bytes(text.encode())


@pytest.mark.parametrize(
    "line",
    [
        'BETA9_SOURCE="{}"',
        "export BETA9_SOURCE={}",
        "BETA9_SOURCE = {}",
        "BETA9_SOURCE= {}",
        "\ufeffBETA9_SOURCE={}",
        "  BETA9_SOURCE\t=\t'{}' # mine\r",
        "BETA9_SOURCE=/elsewhere\nBETA9_SOURCE={}",
    ],
)
def test_the_source_is_found_however_it_is_written(machine: Machine, tmp_path: Path, line: str) -> None:
    """Field cases 2.1, 2.4."""
    write(machine, line.format(tarball(tmp_path / "b.tar.gz")) + "\n")
    done = machine.boot()
    assert done.returncode == 0, done.stderr
    assert "installer of" in done.stdout


def test_a_bare_path_may_have_blanks(machine: Machine, tmp_path: Path) -> None:
    """Field case 2.7."""
    (tmp_path / "my files").mkdir()
    location = tarball(tmp_path / "my files/b.tar.gz")
    source = f"https://nowhere.invalid/b.tar.gz#{location.partition('#')[2]}"
    write(machine, f"BETA9_FILES_DIR={tmp_path}/my files\nBETA9_SOURCE={source}\n")
    done = machine.boot()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ('BETA9_ON_FAILURE="poweroff"', 1),
        ("export BETA9_ON_FAILURE=poweroff", 1),
        ("BETA9_ON_FAILURE = poweroff", 1),
        ("\ufeffBETA9_ON_FAILURE=poweroff", 1),
        ("BETA9_ON_FAILURE='poweroff' # it costs\r", 1),
        ("BETA9_ON_FAILURE=keep\nBETA9_ON_FAILURE=poweroff", 1),
        ("BETA9_ON_FAILURE=poweroff\nBETA9_ON_FAILURE=keep", 0),
        ("BETA9_ON_FAILURE=poweroffx", 0),
        ("BETA9_ON_FAILURE=power off", 0),
        ("this line is broken\nexport BETA9_ON_FAILURE=poweroff", 1),
        ("BETA9_TOKEN='never closed\nBETA9_ON_FAILURE = poweroff", 1),
        ("BETA9_TOKEN='a\nBETA9_ON_FAILURE=poweroff\n'", 0),
    ],
)
def test_the_failure_policy_counts_however_it_is_written(machine: Machine, text: str, times: int) -> None:
    """Field cases 2.2, 2.4, 2.6: a machine that was to power off does not go on costing."""
    write(machine, f"{text}\n{NOT_HERE}")
    assert machine.boot().returncode == 1
    assert len(machine.called("poweroff")) == times


@pytest.mark.parametrize("line", ["BETA9_TOKEN='sEcReT' b", "sEcReT", "BETA9_TOKEN=sEcReT\x07", "BETA9_X='a"])
def test_a_line_that_cannot_be_read_is_named_and_not_shown(
    machine: Machine, tmp_path: Path, line: str
) -> None:
    """Field case 2.3: refused at once, as the installer would, rather than after a download."""
    write(machine, f"BETA9_SOURCE={tarball(tmp_path / 'b.tar.gz')}\n{line}\n")
    done = machine.boot()
    assert done.returncode == 1
    assert "worker.env, line 2: " in done.stderr
    assert "line 2" in machine.failure()["fix"]
    assert "sEcReT" not in done.stdout + done.stderr


def test_an_empty_variable_of_the_environment_does_not_hide_worker_env(
    machine: Machine, tmp_path: Path
) -> None:
    """As for the agent and the installer, empty counts as not set."""
    write(machine, f"BETA9_SOURCE={tarball(tmp_path / 'b.tar.gz')}\n")
    assert machine.boot(BETA9_SOURCE="").returncode == 0


@pytest.mark.parametrize("kind", ["directory", "dangling link"])
def test_a_settings_file_that_cannot_be_read_is_not_taken_for_none(machine: Machine, kind: str) -> None:
    """Field case 2.5, of boot.sh."""
    machine.settings({})
    file = machine.root / "etc/beta9-worker/worker.env"
    file.unlink()
    file.mkdir() if kind == "directory" else file.symlink_to("/not/here")
    done = machine.boot()
    assert done.returncode == 1
    assert f"{file} cannot be read" in done.stderr
