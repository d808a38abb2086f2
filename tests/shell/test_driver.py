"""The driver's step: what it leaves alone, what it installs, and the one reboot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.shell.conftest import Repositories
from tests.shell.nvidia_packages import DRIVER, OLDER, UBUNTU, given_driver
from tests.shell.throwaway import Throwaway, requires_root

pytestmark = requires_root
Machines = Callable[[str], Throwaway]


@pytest.fixture
def ubuntu(copy_of_machine: Machines) -> Throwaway:
    """With a T4, no driver, and a kernel whose headers the archive has."""
    machine = copy_of_machine("ubuntu-24.04")
    machine.pci("lspci-t4")
    machine.recorded("smi-L-t4", "smi-L")
    machine.write("/standin/uname", "6.8.0-1015-aws\n")
    return machine


def test_a_machine_without_nvidia_devices_is_a_cpu_machine_and_says_so_on_the_console(
    ubuntu: Throwaway,
) -> None:
    for recording in ("lspci-none", "lspci-nforce"):
        ubuntu.pci(recording)
        ended = ubuntu.step("driver")
        assert (ended.code, ended.why, ended.changes) == (10, "no NVIDIA device: a CPU machine", ())
        assert "becomes a CPU machine" in ubuntu.read("/tmp/console")


def test_a_machine_whose_gpus_nobody_wants_is_left_alone(ubuntu: Throwaway) -> None:
    ended = ubuntu.step("driver", BETA9_EXPECTED_GPUS="0")
    assert (ended.code, ended.changes) == (10, ())


def test_ubuntu_gets_its_own_server_driver_and_a_second_run_changes_nothing(ubuntu: Throwaway) -> None:
    ended = ubuntu.step("driver")
    assert ended.code == 0, ended.output
    assert ubuntu.called("ubuntu-drivers") == ["install --gpgpu"]
    assert ubuntu.installed("nvidia-utils-580-server") == DRIVER + UBUNTU
    assert ubuntu.installed("linux-headers-6.8.0-1015-aws")
    assert f"driver {DRIVER} works: 1 GPU(s)" in ended.output
    record = ubuntu.read("/var/lib/beta9-worker/bootstrap/record")
    assert "package\tlinux-modules-nvidia-580-server-aws\n" in record

    held = ubuntu.run("apt-mark", "showhold").stdout.split()
    assert {"nvidia-utils-580-server", "linux-modules-nvidia-580-server-aws"} <= set(held)
    blacklist = ubuntu.run("apt-config", "dump", "Unattended-Upgrade::Package-Blacklist").stdout
    assert '"^nvidia-(?!container)"' in blacklist
    assert "^linux-(image|" in blacklist, "prebuilt modules fit one kernel"

    again = ubuntu.step("driver")
    assert (again.code, again.changes) == (0, ()), again.output
    assert ubuntu.called("ubuntu-drivers") == ["install --gpgpu"]


def test_a_branch_that_is_named_is_asked_for(ubuntu: Throwaway) -> None:
    assert ubuntu.step("driver", BETA9_NVIDIA_BRANCH="580").code == 0
    assert ubuntu.called("ubuntu-drivers") == ["install --gpgpu nvidia:580-server"]


def test_a_branch_that_is_none_is_refused_where_it_would_be_used(ubuntu: Throwaway) -> None:
    ended = ubuntu.step("driver", BETA9_NVIDIA_BRANCH="580; reboot")
    assert (ended.code, ended.changes) == (1, ())
    assert ended.why == "BETA9_NVIDIA_BRANCH is '580; reboot', not a branch as 580"


def test_a_driver_that_nobody_has_loaded_since_the_boot_is_loaded(ubuntu: Throwaway) -> None:
    assert ubuntu.step("driver").code == 0
    ubuntu.reboot()
    ended = ubuntu.step("driver")
    assert (ended.code, ended.changes) == (0, ()), ended.output
    assert len(ubuntu.called("ubuntu-drivers")) == 1


def test_a_card_that_ubuntu_knows_no_driver_for_is_named(ubuntu: Throwaway) -> None:
    ubuntu.write("/standin/no-driver-known", "")
    ended = ubuntu.step("driver")
    assert ended.code == 1
    assert ended.why == "ubuntu-drivers knows no driver for these devices: 0000:00:1e.0"
    assert "BETA9_NVIDIA_BRANCH" in ended.fix


def test_a_working_driver_is_left_alone_wherever_it_came_from(ubuntu: Throwaway) -> None:
    ubuntu.run("apt-get", "update")
    ubuntu.run("apt-get", "install", "-y", "nvidia-utils-580-server", "linux-modules-nvidia-580-server-aws")
    ubuntu.run("apt-mark", "hold", "nvidia-utils-580-server")
    ubuntu.run("modprobe", "nvidia")
    ended = ubuntu.step("driver")
    assert ended.code == 0, ended.output
    assert ubuntu.called("ubuntu-drivers") == []
    assert not any("installed" in change for change in ended.changes)
    record = ubuntu.read("/var/lib/beta9-worker/bootstrap/record")
    assert "hold\tnvidia-utils-580-server" not in record, "that was held before us, and stays so when we go"
    assert "hold\tlinux-modules-nvidia-580-server-aws" in record


def test_a_driver_that_is_not_from_packages_is_left_alone_too(ubuntu: Throwaway) -> None:
    given_driver(ubuntu)
    ended = ubuntu.step("driver")
    assert (ended.code, ended.changes) == (0, ())
    assert "not from packages: nothing to hold" in ended.output


def test_an_upgrade_under_a_loaded_module_is_mended_by_loading_the_new_one(ubuntu: Throwaway) -> None:
    given_driver(ubuntu)
    ubuntu.write("/sys/module/nvidia/version", OLDER + "\n")
    ended = ubuntu.step("driver")
    assert ended.code == 0, ended.output
    assert ended.changes == ("unloaded the NVIDIA module of before the upgrade",)
    assert ubuntu.called("modprobe")[-2:] == ["nvidia", "nvidia-uvm"]


def test_a_module_that_is_in_use_costs_the_reboot_instead(ubuntu: Throwaway) -> None:
    given_driver(ubuntu)
    ubuntu.write("/sys/module/nvidia/version", OLDER + "\n")
    ubuntu.write("/standin/in-use", "")
    ended = ubuntu.step("driver")
    assert ended.code == 11
    assert "Driver/library version mismatch" in ended.why
    ubuntu.reboot()
    after = ubuntu.step("driver")
    assert (after.code, after.changes) == (0, ())


def test_there_is_one_reboot_and_no_second(ubuntu: Throwaway) -> None:
    ubuntu.write("/standin/next-kernel-only", "")
    first = ubuntu.step("driver")
    assert first.code == 11, first.output
    # Whoever runs the installer again before the machine has restarted is told the same.
    assert ubuntu.step("driver").code == 11
    installs = ubuntu.called("ubuntu-drivers")

    ubuntu.reboot()
    ubuntu.write("/standin/next-kernel-only", "")
    second = ubuntu.step("driver")
    assert second.code == 1
    assert second.why.startswith("the driver does not work after a reboot, either: NVIDIA-SMI has failed")
    assert "dkms status" in second.fix
    assert ubuntu.called("ubuntu-drivers") == installs, "nothing is installed twice"


def test_a_reboot_that_helped_is_forgotten(ubuntu: Throwaway) -> None:
    ubuntu.write("/standin/next-kernel-only", "")
    assert ubuntu.step("driver").code == 11
    ubuntu.reboot()
    assert ubuntu.step("driver").code == 0
    assert not ubuntu.path("/var/lib/beta9-worker/bootstrap/driver-rebooted").exists()


def test_secure_boot_is_named_where_it_keeps_the_module_out(ubuntu: Throwaway) -> None:
    variable = ubuntu.path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
    variable.parent.mkdir(parents=True)
    variable.write_bytes(b"\x06\x00\x00\x00\x01")
    ubuntu.write("/standin/next-kernel-only", "")
    assert ubuntu.step("driver").code == 11
    ubuntu.write("/standin/boot_id", "another boot\n")
    ended = ubuntu.step("driver")
    assert ended.code == 1
    assert ended.fix.startswith("Secure Boot is on")


def test_a_driver_of_ones_own_is_not_replaced(ubuntu: Throwaway) -> None:
    ended = ubuntu.step("driver", BETA9_OWN_DRIVER="1")
    assert ended.code == 1
    assert ended.why == "BETA9_OWN_DRIVER is set, and the driver does not work: nvidia-smi is not installed"
    assert ended.changes == ()


def test_debian_gets_it_from_nvidias_keyed_repository(
    copy_of_machine: Machines, repositories: Repositories
) -> None:
    debian = copy_of_machine("debian-12")
    debian.pci("lspci-t4")
    debian.recorded("smi-L-t4", "smi-L")
    ended = debian.step("driver", **repositories.settings)
    assert ended.code == 0, ended.output
    assert debian.installed("nvidia-driver-pinning-580")
    assert debian.installed("nvidia-kernel-open-dkms") == DRIVER + "-1"
    source = debian.read("/etc/apt/sources.list.d/beta9-nvidia.list")
    assert "signed-by=/etc/apt/keyrings/beta9-nvidia.gpg" in source
    again = debian.step("driver", **repositories.settings)
    assert (again.code, again.changes) == (0, ()), again.output


def test_another_key_than_the_pinned_one_is_refused(
    copy_of_machine: Machines, repositories: Repositories
) -> None:
    debian = copy_of_machine("debian-12")
    debian.pci("lspci-t4")
    settings = {
        **repositories.settings,
        "BETA9_NVIDIA_KEY_FINGERPRINT": "EB693B3035CD5710E231E123A4B469963BF863CC",
    }
    ended = debian.step("driver", **settings)
    assert ended.code == 1
    assert f"holds the key {repositories.fingerprint}, not EB693B30" in ended.why
    assert not debian.path("/etc/apt/sources.list.d/beta9-nvidia.list").exists()
    assert not debian.installed("nvidia-driver-cuda")


def test_from_branch_590_on_the_pinning_package_is_a_must(
    copy_of_machine: Machines, repositories: Repositories
) -> None:
    debian = copy_of_machine("debian-12")
    debian.pci("lspci-t4")
    ended = debian.step("driver", BETA9_NVIDIA_BRANCH="590", **repositories.settings)
    assert ended.code == 1
    assert "has no nvidia-driver-pinning-590" in ended.why
    assert not debian.installed("nvidia-driver-cuda")
