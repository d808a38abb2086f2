"""cloud-init/boot.sh waits for a source tarball that Terraform sends over ssh, and only for such a one."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import Machine, located, tarball


@pytest.fixture
def sent(machine: Machine, tmp_path: Path) -> tuple[Path, Path]:
    """A tarball here, and its place on the machine, where worker.env names it."""
    here, there = tmp_path / "b.tar.gz", machine.opt / "source/b.tar.gz"
    tarball(here)
    machine.settings({"BETA9_SOURCE": located(str(there), here)})
    return here, there


def test_a_tarball_that_comes_later_is_waited_for(machine: Machine, sent: tuple[Path, Path]) -> None:
    """The waiting is said on the console; the tarball comes once it is."""
    here, there = sent
    machine.stand_in(
        "sleep", f'[[ -e {there} ]] || echo waiting >>"{there.parents[3]}/asleep"; exec /bin/sleep 0.05'
    )
    with ThreadPoolExecutor(1) as pool:
        booting = pool.submit(machine.boot)
        while not (there.parents[3] / "asleep").exists():
            assert not booting.done(), booting.result().stderr
        there.parent.mkdir(parents=True)
        shutil.copy(here, there.with_suffix(".new"))
        there.with_suffix(".new").rename(there)
        done = booting.result()
    assert done.returncode == 0, done.stderr
    assert f"waiting up to 1800 s for {there}, to be sent over ssh" in done.stdout
    assert "installer of" in done.stdout


def test_one_that_does_not_come_fails_the_boot(machine: Machine, sent: tuple[Path, Path]) -> None:
    done = machine.boot(BETA9_SECRETS_TIMEOUT="1", BETA9_ON_FAILURE="poweroff")
    assert done.returncode == 1
    assert f"BETA9_SOURCE: cannot read {sent[1]}" in done.stderr
    assert machine.failure()["failed_stage"] == "boot"
    assert machine.called("poweroff") == ["poweroff "]


def test_another_path_is_not_waited_for(machine: Machine, tmp_path: Path) -> None:
    """It is more likely misspelled."""
    machine.settings({"BETA9_SOURCE": f"{tmp_path}/x.tar.gz#sha256={'0' * 64}"})
    done = machine.boot()
    assert done.returncode == 1
    assert "waiting" not in done.stdout


@pytest.mark.parametrize("wrong", ["soon", "08", "-1", "a[$(touch /tmp/x)]"])
def test_a_time_that_is_no_number_is_not_evaluated(
    wrong: str, machine: Machine, sent: tuple[Path, Path]
) -> None:
    machine.stand_in("sleep", "exit 0")
    done = machine.boot(BETA9_SECRETS_TIMEOUT=wrong)
    assert done.returncode == 1
    assert "waiting up to 1800 s" in done.stdout
