"""The device plugin, and the wait that says which GPU is missing."""

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
    """Two H100, both well and advertised."""
    copy = copy_of_machine("ubuntu-24.04")
    copy.pci("lspci-h100-hgx")
    copy.recorded("smi-L-h100", "smi-L")
    copy.write("/standin/smi-bus", "00000000:18:00.0\n00000000:2A:00.0\n")
    copy.write("/standin/allocatable", "2")
    copy.write("/standin/runtimeclass", "")
    copy.write("/var/lib/beta9-worker/bootstrap/record", "file\t/usr/local/bin/k3s\tsum\n")
    given_driver(copy)
    return copy


def test_the_plugin_runs_as_class_nvidia_and_by_digest(machine: Throwaway) -> None:
    ended = machine.step("device-plugin")
    assert ended.code == 0, ended.output
    account, plugin = yaml.safe_load_all(machine.read(MANIFEST))
    pod = plugin["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "nvidia", "else the node has 0 GPUs"
    assert "@sha256:" in pod["containers"][0]["image"]
    assert {"name": "MIG_STRATEGY", "value": "single"} in pod["containers"][0]["env"]
    assert account["automountServiceAccountToken"] is False
    assert not any("apply" in call for call in machine.called("k3s")), "k3s' own class is not taken over"
    again = machine.step("device-plugin")
    assert (again.code, again.changes) == (0, ())


def test_a_k3s_of_somebody_elses_that_offers_gpus_gets_no_second_plugin(machine: Throwaway) -> None:
    machine.write("/var/lib/beta9-worker/bootstrap/record", "")
    ended = machine.step("device-plugin")
    assert (ended.code, ended.why) == (10, "this k3s offers GPUs already")
    machine.write("/standin/allocatable", "")
    assert machine.step("device-plugin").code == 0
    record = machine.read("/var/lib/beta9-worker/bootstrap/record")
    assert (
        "run\tk3s kubectl -n kube-system delete --ignore-not-found daemonset/nvidia-device-plugin" in record
    )


def test_a_k3s_without_the_class_gets_it(machine: Throwaway) -> None:
    machine.path("/standin/runtimeclass").unlink()
    ended = machine.step("device-plugin", BETA9_GPU_TIMEOUT="1")
    assert ended.code == 0, ended.output
    assert ended.changes[0] == "made the RuntimeClass nvidia"
    runtime_class = yaml.safe_load((BOOTSTRAP / "manifests/nvidia-runtimeclass.yaml").read_text())
    assert (runtime_class["metadata"]["name"], runtime_class["handler"]) == ("nvidia", "nvidia")


def test_an_image_without_a_digest_is_said_and_refused_where_pins_are_required(machine: Throwaway) -> None:
    image = {"BETA9_DEVICE_PLUGIN_IMAGE": "registry.example/device-plugin:v1"}
    assert machine.step("device-plugin", **image).code == 0
    assert "BETA9_DEVICE_PLUGIN_IMAGE is empty" not in machine.read("/tmp/console")
    assert "registry.example/device-plugin:v1" in machine.read("/tmp/console")
    ended = machine.step("device-plugin", BETA9_REQUIRE_PINS="1", **image)
    assert ended.code == 1
    assert "BETA9_REQUIRE_PINS" in ended.why


@pytest.mark.parametrize(
    ("setting", "value"),
    [("BETA9_DEVICE_PLUGIN_IMAGE", 'x"\n  hostPID: true'), ("BETA9_MIG_STRATEGY", "both")],
)
def test_what_would_bend_the_manifest_is_refused(machine: Throwaway, setting: str, value: str) -> None:
    ended = machine.step("device-plugin", **{setting: value})
    assert ended.code == 1
    assert ended.why.startswith(setting)
    assert not machine.path(MANIFEST).exists()


def test_all_gpus_are_there(machine: Throwaway) -> None:
    ended = machine.step("gpus")
    assert (ended.code, ended.changes) == (0, ())
    assert "2 GPU(s) allocatable in k3s" in ended.output


def test_mig_devices_are_what_is_counted(machine: Throwaway) -> None:
    machine.recorded("smi-L-mig", "smi-L")
    machine.write("/standin/allocatable", "4")
    assert machine.step("gpus").code == 0
    machine.write("/standin/allocatable", "1")
    machine.write("/standin/plugin-pod", "Running  ")
    machine.write("/standin/plugin-log", "")
    assert machine.step("gpus").why.startswith("1 of 4 GPU(s) allocatable")


def test_one_that_fell_off_the_bus_is_named_by_its_address(machine: Throwaway) -> None:
    machine.write("/standin/smi-L", machine.read("/standin/smi-L").splitlines()[0] + "\n")
    machine.write("/standin/smi-bus", "00000000:18:00.0\n")
    ended = machine.step("gpus", BETA9_EXPECTED_GPUS="2")
    assert ended.code == 1
    assert ended.why == (
        "2 GPU(s) expected, the driver sees 1; on the PCI bus: 0000:18:00.0 0000:2a:00.0:"
        " the driver does not show 0000:2a:00.0"
    )
    assert "fallen off the bus" in ended.fix


def test_one_that_fell_off_is_said_even_where_nobody_counts(machine: Throwaway) -> None:
    machine.write("/standin/smi-L", machine.read("/standin/smi-L").splitlines()[0] + "\n")
    machine.write("/standin/smi-bus", "00000000:18:00.0\n")
    assert machine.step("gpus").code == 0
    assert "warning: the driver does not show 0000:2a:00.0" in machine.read("/tmp/console")


def test_a_gpu_that_the_bus_does_not_even_show_is_counted_against_what_is_expected(
    machine: Throwaway,
) -> None:
    ended = machine.step("gpus", BETA9_EXPECTED_GPUS="8")
    assert ended.code == 1
    assert ended.why == "8 GPU(s) expected, the driver sees 2; on the PCI bus: 0000:18:00.0 0000:2a:00.0"


def test_an_image_that_cannot_be_pulled_is_the_reason_that_is_shown(machine: Throwaway) -> None:
    machine.write("/standin/allocatable", "")
    machine.write("/standin/plugin-pod", "Pending ImagePullBackOff Back-off pulling image")
    machine.write("/standin/plugin-log", "")
    ended = machine.step("gpus")
    assert ended.code == 1
    assert ended.why == (
        "0 of 2 GPU(s) allocatable in k3s after 1 s:"
        " the device plugin is Pending ImagePullBackOff Back-off pulling image"
    )


def test_the_plugins_own_word_on_an_unhealthy_gpu_is_passed_on(machine: Throwaway) -> None:
    """Words of the plugin: internal/rm/health.go of NVIDIA/k8s-device-plugin."""
    sick = "XidCriticalError: Xid=79 on Device=GPU-7c2e1baf-8d3f-4a4d-a8ae-67d7e88232ef; marking device as unhealthy."
    machine.write("/standin/allocatable", "1")
    machine.write("/standin/plugin-pod", "Running  ")
    machine.write("/standin/plugin-log", f"I1125 10:00:00 starting\nI1125 10:00:01 {sick}\n")
    ended = machine.step("gpus")
    assert ended.code == 1
    assert sick in ended.why


def test_a_driver_that_went_away_meanwhile_is_said(machine: Throwaway) -> None:
    machine.run("rm", "-r", "/sys/module/nvidia")
    ended = machine.step("gpus")
    assert ended.code == 1
    assert ended.why.startswith("the driver does not answer: NVIDIA-SMI has failed")
