"""The device plugin, and the wait that reports missing GPUs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from tests.shell.nvidia_packages import given_driver
from tests.shell.throwaway import BOOTSTRAP, Throwaway, requires_root

pytestmark = requires_root
Machines = Callable[[str], Throwaway]
MANIFEST = "/var/lib/rancher/k3s/server/manifests/beta9-nvidia-device-plugin.yaml"


@pytest.fixture
def machine(copy_of_machine: Machines) -> Throwaway:
    """A machine with two healthy, advertised H100."""
    copy = copy_of_machine("ubuntu-24.04")
    copy.pci("lspci-h100-hgx")
    copy.recorded("smi-L-h100", "smi-L")
    copy.write("/standin/smi-bus", "00000000:18:00.0\n00000000:2A:00.0\n")
    copy.write("/standin/allocatable", "2")
    copy.write("/standin/runtimeclass", "")
    copy.write("/var/lib/beta9-worker/bootstrap/record", "file\t/usr/local/bin/k3s\tsum\n")
    given_driver(copy)
    return copy


def test_the_plugin_uses_the_class_nvidia_and_a_digest(machine: Throwaway) -> None:
    result = machine.step("device-plugin")
    assert result.code == 0, result.output
    account, plugin = yaml.safe_load_all(machine.read(MANIFEST))
    pod = plugin["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "nvidia", "otherwise the node has 0 GPUs"
    assert "@sha256:" in pod["containers"][0]["image"]
    assert {"name": "MIG_STRATEGY", "value": "single"} in pod["containers"][0]["env"]
    assert account["automountServiceAccountToken"] is False
    assert not any("apply" in call for call in machine.called("k3s")), "k3s' own class is not replaced"
    again = machine.step("device-plugin")
    assert (again.code, again.changes) == (0, ())


def test_an_existing_k3s_that_offers_gpus_gets_no_second_plugin(machine: Throwaway) -> None:
    machine.write("/var/lib/beta9-worker/bootstrap/record", "")
    result = machine.step("device-plugin")
    assert (result.code, result.reason) == (10, "the existing k3s already offers GPUs")
    machine.write("/standin/allocatable", "")
    assert machine.step("device-plugin").code == 0
    record = machine.read("/var/lib/beta9-worker/bootstrap/record")
    assert (
        "run\tk3s kubectl -n kube-system delete --ignore-not-found daemonset/nvidia-device-plugin" in record
    )


def test_a_k3s_without_the_class_gets_it(machine: Throwaway) -> None:
    machine.path("/standin/runtimeclass").unlink()
    result = machine.step("device-plugin", BETA9_GPU_TIMEOUT="1")
    assert result.code == 0, result.output
    assert result.changes[0] == "created the RuntimeClass nvidia"
    runtime_class = yaml.safe_load((BOOTSTRAP / "manifests/nvidia-runtimeclass.yaml").read_text())
    assert (runtime_class["metadata"]["name"], runtime_class["handler"]) == ("nvidia", "nvidia")


def test_an_image_without_a_digest_is_a_warning_or_refused_if_pins_are_required(machine: Throwaway) -> None:
    image = {"BETA9_DEVICE_PLUGIN_IMAGE": "registry.example/device-plugin:v1"}
    assert machine.step("device-plugin", **image).code == 0
    assert "BETA9_DEVICE_PLUGIN_IMAGE is empty" not in machine.read("/tmp/console")
    assert "registry.example/device-plugin:v1" in machine.read("/tmp/console")
    result = machine.step("device-plugin", BETA9_REQUIRE_PINS="1", **image)
    assert result.code == 1
    assert "BETA9_REQUIRE_PINS" in result.reason


@pytest.mark.parametrize(
    ("setting", "value"),
    [("BETA9_DEVICE_PLUGIN_IMAGE", 'x"\n  hostPID: true'), ("BETA9_MIG_STRATEGY", "both")],
)
def test_values_that_would_break_the_manifest_are_refused(
    machine: Throwaway, setting: str, value: str
) -> None:
    result = machine.step("device-plugin", **{setting: value})
    assert result.code == 1
    assert result.reason.startswith(setting)
    assert not machine.path(MANIFEST).exists()


def test_all_gpus_are_present(machine: Throwaway) -> None:
    result = machine.step("gpus")
    assert (result.code, result.changes) == (0, ())
    assert "2 GPU(s) allocatable in k3s" in result.output


def test_mig_devices_are_counted(machine: Throwaway) -> None:
    machine.recorded("smi-L-mig", "smi-L")
    machine.write("/standin/allocatable", "4")
    assert machine.step("gpus").code == 0
    machine.write("/standin/allocatable", "1")
    machine.write("/standin/plugin-pod", "Running  ")
    machine.write("/standin/plugin-log", "")
    assert machine.step("gpus").reason.startswith("1 of 4 GPU(s) allocatable")


def test_a_gpu_that_fell_off_the_bus_is_named_by_its_address(machine: Throwaway) -> None:
    machine.write("/standin/smi-L", machine.read("/standin/smi-L").splitlines()[0] + "\n")
    machine.write("/standin/smi-bus", "00000000:18:00.0\n")
    result = machine.step("gpus", BETA9_EXPECTED_GPUS="2")
    assert result.code == 1
    assert result.reason == (
        "2 GPU(s) expected, the driver sees 1; on the PCI bus: 0000:18:00.0 0000:2a:00.0:"
        " the driver does not show 0000:2a:00.0"
    )
    assert "fallen off the bus" in result.fix


def test_a_gpu_that_fell_off_the_bus_is_a_warning_without_an_expected_count(machine: Throwaway) -> None:
    machine.write("/standin/smi-L", machine.read("/standin/smi-L").splitlines()[0] + "\n")
    machine.write("/standin/smi-bus", "00000000:18:00.0\n")
    assert machine.step("gpus").code == 0
    assert "warning: the driver does not show 0000:2a:00.0" in machine.read("/tmp/console")


def test_a_gpu_that_is_not_on_the_bus_is_missing_from_the_expected_count(
    machine: Throwaway,
) -> None:
    result = machine.step("gpus", BETA9_EXPECTED_GPUS="8")
    assert result.code == 1
    assert result.reason == "8 GPU(s) expected, the driver sees 2; on the PCI bus: 0000:18:00.0 0000:2a:00.0"


def test_an_image_that_cannot_be_pulled_is_the_reason(machine: Throwaway) -> None:
    machine.write("/standin/allocatable", "")
    machine.write("/standin/plugin-pod", "Pending ImagePullBackOff Back-off pulling image")
    machine.write("/standin/plugin-log", "")
    result = machine.step("gpus")
    assert result.code == 1
    assert result.reason == (
        "0 of 2 GPU(s) allocatable in k3s after 1 s:"
        " the device plugin is Pending ImagePullBackOff Back-off pulling image"
    )


def test_the_plugins_message_about_an_unhealthy_gpu_is_shown(machine: Throwaway) -> None:
    """The message is from internal/rm/health.go in NVIDIA/k8s-device-plugin."""
    gpu = "GPU-7c2e1baf-8d3f-4a4d-a8ae-67d7e88232ef"
    message = f"XidCriticalError: Xid=79 on Device={gpu}; marking device as unhealthy."
    machine.write("/standin/allocatable", "1")
    machine.write("/standin/plugin-pod", "Running  ")
    machine.write("/standin/plugin-log", f"I1125 10:00:00 starting\nI1125 10:00:01 {message}\n")
    result = machine.step("gpus")
    assert result.code == 1
    assert message in result.reason


def test_a_driver_that_stopped_working_is_reported(machine: Throwaway) -> None:
    machine.run("rm", "-r", "/sys/module/nvidia")
    result = machine.step("gpus")
    assert result.code == 1
    assert result.reason.startswith("the driver does not answer: NVIDIA-SMI has failed")
