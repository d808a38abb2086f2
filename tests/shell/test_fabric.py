"""Fabric manager: only on machines with an NVSwitch, and only in the driver's version."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.shell.conftest import Repositories
from tests.shell.nvidia_packages import DRIVER, OLDER, UBUNTU, given_driver
from tests.shell.throwaway import Throwaway, requires_root

pytestmark = requires_root
Machines = Callable[[str], Throwaway]
UNIT = "nvidia-fabricmanager"


@pytest.fixture
def hgx(copy_of_machine: Machines) -> Throwaway:
    """An HGX H100 whose driver works and whose fabric comes up once its manager is running."""
    machine = copy_of_machine("ubuntu-24.04")
    machine.pci("lspci-h100-hgx")
    machine.recorded("smi-L-h100", "smi-L")
    machine.recorded("smi-q-fabric-up", "smi-q")
    given_driver(machine)
    return machine


def test_machines_without_nvswitch_are_skipped(hgx: Throwaway) -> None:
    hgx.pci("lspci-t4")
    result = hgx.step("fabric")
    assert (result.code, result.reason, result.changes) == (10, "no NVSwitch", ())


def test_the_drivers_version_is_installed_even_if_another_is_available(hgx: Throwaway) -> None:
    result = hgx.step("fabric")
    assert result.code == 0, result.output
    assert hgx.installed("nvidia-fabricmanager-580") == DRIVER + UBUNTU
    assert f"restart {UNIT}" in hgx.called("systemctl")
    assert "fabric: 1 x Completed" in result.output
    assert "nvidia-fabricmanager-580" in hgx.run("apt-mark", "showhold").stdout.split()

    again = hgx.step("fabric")
    assert (again.code, again.changes) == (0, ()), again.output
    assert hgx.called("systemctl").count(f"restart {UNIT}") == 1


def test_a_version_newer_than_the_driver_is_replaced_even_if_it_is_held(hgx: Throwaway) -> None:
    hgx.run("apt-get", "update")
    hgx.run("apt-get", "install", "-y", f"nvidia-fabricmanager-580={DRIVER}{UBUNTU}")
    hgx.run("apt-mark", "hold", "nvidia-fabricmanager-580")
    hgx.write("/standin/units/nvidia-fabricmanager.active", "")
    hgx.write("/standin/units/nvidia-fabricmanager.enabled", "")
    given_driver(hgx, loaded=OLDER)
    hgx.write("/usr/lib/nvidia-module/library", OLDER + "\n")
    result = hgx.step("fabric")
    assert result.code == 0, result.output
    assert hgx.installed("nvidia-fabricmanager-580") == OLDER + UBUNTU
    assert f"fabric manager {DRIVER}, the driver is {OLDER}: installing" in result.output
    assert f"restart {UNIT}" in hgx.called("systemctl")


def test_a_version_that_no_repository_has_is_reported_with_the_fix(hgx: Throwaway) -> None:
    hgx.run("apt-get", "update")
    hgx.run("apt-get", "install", "-y", f"nvidia-fabricmanager-580={OLDER}{UBUNTU}")
    given_driver(hgx, loaded="580.65.06")
    result = hgx.step("fabric")
    assert result.code == 1
    assert result.reason == (
        f"the driver is 580.65.06 and fabric manager {OLDER};"
        " no configured repository has fabric manager 580.65.06"
    )
    assert "apt-cache madison nvidia-fabricmanager" in result.fix
    assert hgx.installed("nvidia-fabricmanager-580") == OLDER + UBUNTU, (
        "the wrong version is not replaced by another"
    )


def test_nvidias_repository_has_no_branch_in_the_name(
    copy_of_machine: Machines, repositories: Repositories
) -> None:
    debian = copy_of_machine("debian-12")
    debian.pci("lspci-h100-hgx")
    debian.recorded("smi-L-h100", "smi-L")
    debian.recorded("smi-q-fabric-up", "smi-q")
    debian.write("/etc/apt/sources.list", "deb [trusted=yes] file:/repository/nvidia /\n")
    given_driver(debian)
    result = debian.step("fabric", **repositories.settings)
    assert result.code == 0, result.output
    assert debian.installed("nvidia-fabricmanager") == DRIVER + "-1"


def test_a_service_that_does_not_start_fails_the_step(hgx: Throwaway) -> None:
    hgx.write("/standin/units/nvidia-fabricmanager.broken", "")
    result = hgx.step("fabric")
    assert (result.code, result.reason) == (1, f"{UNIT} does not start")
    # The restart is still pending, although the package is installed by now.
    hgx.path("/standin/units/nvidia-fabricmanager.broken").unlink()
    assert hgx.step("fabric").code == 0
    assert hgx.called("systemctl").count(f"restart {UNIT}") == 2


def test_a_fabric_that_does_not_come_up_fails_the_step_after_the_timeout(hgx: Throwaway) -> None:
    hgx.recorded("smi-q-fabric-progress", "smi-q")
    result = hgx.step("fabric")
    assert result.code == 1
    assert result.reason == "the fabric is not up: 1 x In Progress"
    assert "fabricmanager.log" in result.fix


def test_gpus_that_report_no_fabric_are_accepted(hgx: Throwaway) -> None:
    hgx.recorded("smi-q-fabric-none", "smi-q")
    assert hgx.step("fabric").code == 0


def test_blackwell_switches_need_the_subnet_manager(hgx: Throwaway) -> None:
    hgx.pci("lspci-b200")
    assert hgx.step("fabric").reason == "no NVSwitch", "an ordinary ConnectX-7 is not a switch"
    hgx.pci("lspci-b200", vpd={"0000:03:00.0": "SMDL=SW_MNG"})
    result = hgx.step("fabric")
    assert result.code == 1
    assert "no configured repository has the package nvlsm" in result.reason
    hgx.write("/etc/apt/sources.list.d/nvidia.list", "deb [trusted=yes] file:/repository/nvidia /\n")
    hgx.run("apt-get", "update")
    result = hgx.step("fabric")
    assert result.code == 0, result.output
    assert hgx.installed("nvlsm")
    assert "ib_umad" in hgx.called("modprobe")
    assert hgx.read("/etc/modules-load.d/beta9-nvswitch.conf") == "ib_umad\n"
