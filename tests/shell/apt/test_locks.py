"""Other programs that use apt at the same time: they are waited for, and named if they do not finish."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.integration.polling import wait_for
from tests.shell.nvidia_packages import DRIVER, UBUNTU
from tests.shell.packages import Package, publish
from tests.shell.throwaway import StepResult, Throwaway, requires_root

pytestmark = requires_root
FRONT_END = "/var/lib/dpkg/lock-frontend"
ARCHIVES = "/var/cache/apt/archives/lock"
LISTS = "/var/lib/apt/lists/lock"
RECORD = "/var/lib/beta9-worker/bootstrap/record"
HOLDER = """
import fcntl, sys, threading
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
threading.Event().wait()
"""


@contextmanager
def held(machine: Throwaway, lock: str) -> Iterator[None]:
    machine.path(lock).parent.mkdir(parents=True, exist_ok=True)
    with machine.background("python3", "-c", HOLDER, lock):
        yield


def step_while_held(
    machine: Throwaway,
    lock: str,
    step: str,
    meanwhile: Callable[[], object] = lambda: None,
    **settings: str,
) -> StepResult:
    """Run a step; the lock is released once apt has been refused it."""

    def refused() -> bool:
        outputs = machine.path("/tmp").glob("run-*/apt-output")
        return any("et lock" in output.read_text() for output in outputs)

    with ThreadPoolExecutor(1) as pool, held(machine, lock):
        running = pool.submit(machine.step, step, **settings)
        wait_for("apt to be refused the lock", lambda: running.done() or refused())
        meanwhile()
        assert not running.done(), running.result()
        # The lock is released here, and the step is waited for by the pool.
    return running.result()


@pytest.mark.parametrize("lock", [FRONT_END, "/var/lib/dpkg/lock", ARCHIVES, LISTS])
def test_every_lock_is_waited_for(machine: Throwaway, lock: str) -> None:
    """Field case 5.3: the locks of lists and archives as well, for which apt itself does not wait."""
    publish(machine.path("/site/other"), [Package("somebody-elses", "1")])

    def somebody_installs() -> None:
        if lock == ARCHIVES:  # they need no other
            machine.run("dpkg", "--install", "/site/other/somebody-elses_1_all.deb")

    result = step_while_held(machine, lock, "tools", somebody_installs)
    assert (result.code, result.changes) == (0, ("installed nftables",)), result.output
    waits = r"waiting for another program that uses apt \(\d+ s of 600 s\): Could not get lock "
    assert re.search(waits + re.escape(f"{lock}."), result.output), result.output
    assert "(python3)" in result.output
    assert machine.read(RECORD).splitlines() == ["package\tnftables"], "not what others installed meanwhile"


def test_a_program_that_keeps_the_lock_is_named(machine: Throwaway) -> None:
    """Field case 5.3: bounded, and neither a mirror nor DNS is blamed."""
    for lock in (LISTS, FRONT_END):
        with held(machine, lock):
            result = machine.step("tools", BETA9_DEADLINE_SCALE="0")
        assert result.code == 1
        assert f"Could not get lock {lock}. It is held by process" in result.reason
        assert "(python3)" in result.reason
        assert "ps -fp" in result.fix
        assert "mirror" not in result.reason + result.fix


def test_an_interrupted_installation_is_completed(machine: Throwaway) -> None:
    """The first boot's upgrades were cut off by a reboot, or an earlier run by its deadline."""
    machine.write("/var/lib/dpkg/updates/0001", "")
    assert "dpkg was interrupted" in machine.run("apt-get", "install", "-y", "nftables").stderr
    result = machine.step("tools")
    assert (result.code, result.changes) == (0, ("installed nftables",)), result.output


UBUNTU_DRIVERS = """#!/bin/bash
echo "$*" >>/standin/ubuntu-drivers.calls
INSTALL
"""
INSTALL = "apt-get install -y nvidia-headless-no-dkms-580-server linux-modules-nvidia-580-server-aws"


@pytest.fixture
def ubuntu(copy_of_machine: Callable[[str], Throwaway]) -> Throwaway:
    copy = copy_of_machine("ubuntu-24.04")
    copy.pci("lspci-t4")
    copy.recorded("smi-L-t4", "smi-L")
    copy.write("/standin/uname", "6.8.0-1015-aws\n")
    return copy


@pytest.mark.parametrize("lock", [FRONT_END, ARCHIVES])
@pytest.mark.parametrize(
    "install",
    [INSTALL, f"{INSTALL}; exit 0", f"{INSTALL} >/dev/null 2>&1; exit 0"],
    ids=["code-kept", "code-dropped", "silent"],
)
def test_ubuntu_drivers_waits_as_well(ubuntu: Throwaway, lock: str, install: str) -> None:
    """Field case 5.1: its apt-get is not ours, and its exit code need not be apt's."""
    ubuntu.run("apt-get", "update")
    ubuntu.run("apt-get", "install", "-y", "linux-headers-6.8.0-1015-aws", "ubuntu-drivers-common")
    ubuntu.write("/usr/bin/ubuntu-drivers", UBUNTU_DRIVERS.replace("INSTALL", install), 0o755)
    result = step_while_held(ubuntu, lock, "driver")
    assert result.code == 0, result.output
    assert ubuntu.installed("nvidia-utils-580-server") == DRIVER + UBUNTU
    assert "package\tlinux-modules-nvidia-580-server-aws\n" in ubuntu.read(RECORD)


TAKEN_LATER = """
[[ -e /standin/held ]] || python3 /standin/holder.py LOCK >/standin/held 2>/dev/null &
until [[ -s /standin/held ]]; do sleep 0.05; done
"""
UNTIL_MET = """
import glob, time
while not any("et lock" in open(name).read() for name in glob.glob("/tmp/run-*/apt-output")):
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("lock", "install"),
    [
        (FRONT_END, INSTALL),
        (ARCHIVES, f"{INSTALL}; exit 0"),
        (ARCHIVES, f"{INSTALL} >/dev/null 2>&1; exit 0"),
    ],
    ids=["waited-for-by-its-apt", "code-dropped", "silent"],
)
def test_a_lock_that_is_taken_after_ubuntu_drivers_has_started_is_waited_for(
    ubuntu: Throwaway, lock: str, install: str
) -> None:
    """Field case 5.1. The lock is released once apt has met it."""
    ubuntu.run("apt-get", "update")
    ubuntu.run("apt-get", "install", "-y", "linux-headers-6.8.0-1015-aws", "ubuntu-drivers-common")
    ubuntu.write("/standin/holder.py", HOLDER.replace("threading.Event().wait()", UNTIL_MET))
    script = UBUNTU_DRIVERS.replace("INSTALL", TAKEN_LATER.replace("LOCK", lock) + install)
    ubuntu.write("/usr/bin/ubuntu-drivers", script, 0o755)
    ubuntu.path(lock).parent.mkdir(parents=True, exist_ok=True)
    result = ubuntu.step("driver")
    assert result.code == 0, result.output
    assert ubuntu.installed("nvidia-utils-580-server") == DRIVER + UBUNTU
    assert len(ubuntu.called("ubuntu-drivers")) == (1 if lock == FRONT_END else 2)
