"""The driver step: what it keeps, what it installs, and the single reboot."""

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
    """A machine with a T4, no driver, and a kernel whose headers are in the archive."""
    machine = copy_of_machine("ubuntu-24.04")
    machine.pci("lspci-t4")
    machine.recorded("smi-L-t4", "smi-L")
    machine.write("/standin/uname", "6.8.0-1015-aws\n")
    return machine


def test_a_machine_without_nvidia_devices_becomes_a_cpu_machine_and_the_console_says_so(
    ubuntu: Throwaway,
) -> None:
    for recording in ("lspci-none", "lspci-nforce"):
        ubuntu.pci(recording)
        result = ubuntu.step("driver")
        assert (result.code, result.reason, result.changes) == (
            10,
            "no NVIDIA device: this is a CPU machine",
            (),
        )
        assert "becomes a CPU machine" in ubuntu.read("/tmp/console")


def test_nothing_is_installed_if_no_gpus_are_expected(ubuntu: Throwaway) -> None:
    result = ubuntu.step("driver", BETA9_EXPECTED_GPUS="0")
    assert (result.code, result.changes) == (10, ())


def test_ubuntu_gets_its_own_server_driver_and_a_second_run_changes_nothing(ubuntu: Throwaway) -> None:
    result = ubuntu.step("driver")
    assert result.code == 0, result.output
    assert ubuntu.called("ubuntu-drivers") == ["install --gpgpu"]
    assert ubuntu.installed("nvidia-utils-580-server") == DRIVER + UBUNTU
    assert ubuntu.installed("linux-headers-6.8.0-1015-aws")
    assert f"driver {DRIVER} works: 1 GPU(s)" in result.output
    record = ubuntu.read("/var/lib/beta9-worker/bootstrap/record")
    assert "package\tlinux-modules-nvidia-580-server-aws\n" in record

    held = ubuntu.run("apt-mark", "showhold").stdout.split()
    assert {"nvidia-utils-580-server", "linux-modules-nvidia-580-server-aws"} <= set(held)
    blacklist = ubuntu.run("apt-config", "dump", "Unattended-Upgrade::Package-Blacklist").stdout
    assert '"^nvidia-(?!container)"' in blacklist
    assert "^linux-(image|" in blacklist, "prebuilt modules match one kernel"

    again = ubuntu.step("driver")
    assert (again.code, again.changes) == (0, ()), again.output
    assert ubuntu.called("ubuntu-drivers") == ["install --gpgpu"]


def test_a_configured_branch_is_installed(ubuntu: Throwaway) -> None:
    assert ubuntu.step("driver", BETA9_NVIDIA_BRANCH="580").code == 0
    assert ubuntu.called("ubuntu-drivers") == ["install --gpgpu nvidia:580-server"]


def test_an_invalid_branch_is_refused(ubuntu: Throwaway) -> None:
    result = ubuntu.step("driver", BETA9_NVIDIA_BRANCH="580; reboot")
    assert (result.code, result.changes) == (1, ())
    assert result.reason == "BETA9_NVIDIA_BRANCH is '580; reboot', not a branch such as 580"


def test_a_driver_that_is_not_loaded_yet_after_a_boot_is_loaded(ubuntu: Throwaway) -> None:
    assert ubuntu.step("driver").code == 0
    ubuntu.reboot()
    result = ubuntu.step("driver")
    assert (result.code, result.changes) == (0, ()), result.output
    assert len(ubuntu.called("ubuntu-drivers")) == 1


def test_a_device_without_a_driver_in_ubuntu_is_named(ubuntu: Throwaway) -> None:
    ubuntu.write("/standin/no-driver-known", "")
    result = ubuntu.step("driver")
    assert result.code == 1
    assert result.reason == "ubuntu-drivers found no driver for these devices: 0000:00:1e.0"
    assert "BETA9_NVIDIA_BRANCH" in result.fix


def test_a_working_driver_is_kept_whatever_its_source(ubuntu: Throwaway) -> None:
    ubuntu.run("apt-get", "update")
    ubuntu.run("apt-get", "install", "-y", "nvidia-utils-580-server", "linux-modules-nvidia-580-server-aws")
    ubuntu.run("apt-mark", "hold", "nvidia-utils-580-server")
    ubuntu.run("modprobe", "nvidia")
    result = ubuntu.step("driver")
    assert result.code == 0, result.output
    assert ubuntu.called("ubuntu-drivers") == []
    assert not any("installed" in change for change in result.changes)
    record = ubuntu.read("/var/lib/beta9-worker/bootstrap/record")
    assert "hold\tnvidia-utils-580-server" not in record, (
        "it was held before, and must stay so after uninstalling"
    )
    assert "hold\tlinux-modules-nvidia-580-server-aws" in record


def test_a_driver_without_packages_is_kept_as_well(ubuntu: Throwaway) -> None:
    given_driver(ubuntu)
    result = ubuntu.step("driver")
    assert (result.code, result.changes) == (0, ())
    assert "not installed from packages: nothing to hold" in result.output


def test_after_an_upgrade_under_a_loaded_module_the_new_one_is_loaded(ubuntu: Throwaway) -> None:
    given_driver(ubuntu)
    ubuntu.write("/sys/module/nvidia/version", OLDER + "\n")
    result = ubuntu.step("driver")
    assert result.code == 0, result.output
    assert result.changes == ("unloaded the NVIDIA module from before the upgrade",)
    assert ubuntu.called("modprobe")[-2:] == ["nvidia", "nvidia-uvm"]


def test_a_module_that_is_in_use_requires_the_reboot(ubuntu: Throwaway) -> None:
    given_driver(ubuntu)
    ubuntu.write("/sys/module/nvidia/version", OLDER + "\n")
    ubuntu.write("/standin/in-use", "")
    result = ubuntu.step("driver")
    assert result.code == 11
    assert "Driver/library version mismatch" in result.reason
    ubuntu.reboot()
    after = ubuntu.step("driver")
    assert (after.code, after.changes) == (0, ())


def test_there_is_no_second_reboot(ubuntu: Throwaway) -> None:
    ubuntu.write("/standin/next-kernel-only", "")
    first = ubuntu.step("driver")
    assert first.code == 11, first.output
    # Running the installer again before the reboot has the same result.
    assert ubuntu.step("driver").code == 11
    installs = ubuntu.called("ubuntu-drivers")

    ubuntu.reboot()
    ubuntu.write("/standin/next-kernel-only", "")
    second = ubuntu.step("driver")
    assert second.code == 1
    assert second.reason.startswith("the driver still does not work after a reboot: NVIDIA-SMI has failed")
    assert "dkms status" in second.fix
    assert ubuntu.called("ubuntu-drivers") == installs, "nothing is installed twice"


def test_a_successful_reboot_is_forgotten(ubuntu: Throwaway) -> None:
    ubuntu.write("/standin/next-kernel-only", "")
    assert ubuntu.step("driver").code == 11
    ubuntu.reboot()
    assert ubuntu.step("driver").code == 0
    assert not ubuntu.path("/var/lib/beta9-worker/bootstrap/driver-rebooted").exists()


def test_secure_boot_is_named_if_it_blocks_the_module(ubuntu: Throwaway) -> None:
    variable = ubuntu.path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
    variable.parent.mkdir(parents=True)
    variable.write_bytes(b"\x06\x00\x00\x00\x01")
    ubuntu.write("/standin/next-kernel-only", "")
    assert ubuntu.step("driver").code == 11
    ubuntu.write("/standin/boot_id", "another boot\n")
    result = ubuntu.step("driver")
    assert result.code == 1
    assert result.fix.startswith("Secure Boot is enabled")


def test_with_own_driver_none_is_installed(ubuntu: Throwaway) -> None:
    result = ubuntu.step("driver", BETA9_OWN_DRIVER="1")
    assert result.code == 1
    assert (
        result.reason == "BETA9_OWN_DRIVER is set, but the driver does not work: nvidia-smi is not installed"
    )
    assert result.changes == ()


def test_debian_uses_nvidias_signed_repository(copy_of_machine: Machines, repositories: Repositories) -> None:
    debian = copy_of_machine("debian-12")
    debian.pci("lspci-t4")
    debian.recorded("smi-L-t4", "smi-L")
    result = debian.step("driver", **repositories.settings)
    assert result.code == 0, result.output
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
    result = debian.step("driver", **settings)
    assert result.code == 1
    assert f"contains the key {repositories.fingerprint}, not EB693B30" in result.reason
    assert not debian.path("/etc/apt/sources.list.d/beta9-nvidia.list").exists()
    assert not debian.installed("nvidia-driver-cuda")


def test_from_branch_590_on_the_pinning_package_is_required(
    copy_of_machine: Machines, repositories: Repositories
) -> None:
    debian = copy_of_machine("debian-12")
    debian.pci("lspci-t4")
    result = debian.step("driver", BETA9_NVIDIA_BRANCH="590", **repositories.settings)
    assert result.code == 1
    assert "has no nvidia-driver-pinning-590" in result.reason
    assert not debian.installed("nvidia-driver-cuda")
