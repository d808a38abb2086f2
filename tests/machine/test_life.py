"""A machine's life: created from user-data, given its secrets, reinstalled, rebooted, uninstalled.

All tests share one machine, since booting takes minutes: each continues where the previous one ended.
"""

from __future__ import annotations

import json
import socket
import ssl
import time

import pytest

from tests.machine import inventory
from tests.machine.inventory import Inventory
from tests.machine.life import INSTALL, INSTALL_DEADLINE_S, Life, seconds_since
from tests.machine.vm import BOOT_DEADLINE_S, HOST

pytestmark = [pytest.mark.machine, pytest.mark.timeout(2 * INSTALL_DEADLINE_S)]

KUBECTL = "KUBECACHEDIR=/tmp/kubectl k3s kubectl"
"""Without a cache in root's home, which would count as a trace of the bootstrap."""
WORKER_POD = """
export KUBECACHEDIR=/tmp/kubectl
k3s kubectl get serviceaccount default >/dev/null 2>&1 || k3s kubectl create serviceaccount default
k3s kubectl apply -f - <<EOT
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker-1", "labels": {"run.beam.cloud/role": "worker"}},
 "spec": {"nodeName": "$(k3s kubectl get nodes -o jsonpath='{.items[0].metadata.name}')",
          "containers": [{"name": "worker", "image": "worker"}]}}
EOT
"""
BREAK_DOCKER_AND_EXPECT_GPUS = """
mkdir -p /opt/pci/0000:00:1e.0
echo 0x10de >/opt/pci/0000:00:1e.0/vendor
echo 0x030200 >/opt/pci/0000:00:1e.0/class
options='--gpus all --volume /opt/pci:/sys/bus/pci/devices:ro'
sed -i "s|^AGENT_OPTIONS=.*|AGENT_OPTIONS=$options|" /var/lib/beta9-worker/bootstrap/agent.env
mkdir -p /etc/docker
echo '{ broken' >/etc/docker/daemon.json
"""
"""The machine has no GPU: the container sees a PCI bus with one, and Docker refuses `--gpus` as without a driver."""

USER_DATA = "/var/lib/cloud/instance/user-data.txt"

_BEFORE: list[Inventory] = []


def test_the_user_data_reaches_the_machine_without_secrets(life: Life) -> None:
    life.vm.wait_ssh()
    life.vm.wait_for(
        "the machine requests its bootstrap",
        lambda: ("GET", f"/{life.tarball}") in life.site.mirrors.requests,
        BOOT_DEADLINE_S,
    )
    assert life.machine.registration_token not in life.text
    assert life.vm.output("stat -c '%a %U' /etc/beta9-worker/worker.env") == "600 root"
    assert life.vm.output(f"cat {USER_DATA}") == life.text.rstrip("\n")
    assert "Valid" in life.vm.output(f"cloud-init schema --config-file {USER_DATA}", BOOT_DEADLINE_S)
    _BEFORE.append(inventory.take(life.vm))


def test_the_machine_waits_for_its_secrets_and_then_becomes_ready(life: Life) -> None:
    began_s = time.monotonic()
    life.fetch.set()
    life.vm.wait_console("push-secrets", INSTALL_DEADLINE_S)
    assert life.site.status(life.machine) == "pending"
    life.push_secrets()
    assert life.vm.output("stat -c '%a %U' /etc/beta9-worker/secrets/*").split("\n") == ["600 root"] * 2
    life.site.wait_ready(life.vm, life.machine, INSTALL_DEADLINE_S)
    life.report.append(
        f"from the source tarball to ready, secrets pushed meanwhile: {seconds_since(began_s)}"
    )
    life.vm.wait_for(
        "the bootstrap has ended", lambda: bool(life.bootstrap().get("finished_at")), BOOT_DEADLINE_S
    )
    assert life.bootstrap()["result"] == "ok"
    life.report += life.vm.output("beta9-worker boot-report").splitlines()
    assert "status: done" in life.vm.output("cloud-init status --wait --long")


def test_the_agent_s_status_agrees_with_the_gateway(life: Life) -> None:
    status = life.status()
    assert status["state"] == "READY"
    assert status["machine_id"] == life.machine.machine_id
    assert status["capacity"]["offered"], status
    assert status["tunnel"]["reverse"]["up"], status


def test_container_data_is_on_the_scratch_disk(life: Life) -> None:
    device = life.vm.output("findmnt -rno SOURCE --target /var/lib/rancher")
    assert "nvme0n1" in device


def test_kubernetes_is_not_reachable_from_outside(life: Life) -> None:
    inside = life.vm.output("curl -sk --max-time 60 -o /dev/null -w '%{http_code}' https://127.0.0.1:6443/")
    assert inside == "401"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # QEMU accepts the connection in the machine's place; nothing on the machine must answer.
    with (
        pytest.raises(OSError, match=r"timed out|reset|EOF"),
        socket.create_connection((HOST, life.vm.k3s_port), timeout=20) as connection,
    ):
        context.wrap_socket(connection)


def test_a_second_run_of_the_installer_changes_nothing(life: Life) -> None:
    processes = (
        "docker inspect -f '{{.Id}} {{.State.StartedAt}}' beta9-worker; systemctl show -P MainPID k3s docker"
    )
    before, running = inventory.take(life.vm), life.vm.output(processes)
    done = life.vm.run(INSTALL, INSTALL_DEADLINE_S)
    assert "done, 0 changes" in done.stdout + done.stderr
    changed = [each for each in inventory.take(life.vm).differences(before) if "bootstrap.json" not in each]
    assert changed == []
    assert life.vm.output(processes) == running


def test_after_a_reboot_it_becomes_ready_again(life: Life) -> None:
    entry = life.site.gateway.machine(life.machine.machine_id)
    assert entry is not None
    began_s = time.monotonic()
    life.vm.reboot()
    life.vm.wait_for(
        "it has registered again", lambda: _registrations(life) > entry.registrations, BOOT_DEADLINE_S
    )
    life.site.wait_ready(life.vm, life.machine, INSTALL_DEADLINE_S)
    life.report.append(f"from reboot to ready again: {seconds_since(began_s)}")


def test_an_upgrade_of_docker_ends_no_work_and_the_agent_comes_back(life: Life) -> None:
    """Field case 11.1: a package's upgrade stops and starts Docker, and nobody starts the agent again."""
    life.vm.run(WORKER_POD, BOOT_DEADLINE_S)
    before = _registrations(life)
    began_s = time.monotonic()
    life.vm.run(
        "systemctl stop docker.socket docker.service && systemctl start docker.service", BOOT_DEADLINE_S
    )
    life.vm.wait_for("it has registered again", lambda: _registrations(life) > before, BOOT_DEADLINE_S)
    life.site.wait_ready(life.vm, life.machine, BOOT_DEADLINE_S)
    life.report.append(f"from Docker stopped and started to ready again: {seconds_since(began_s)}")
    pod = json.loads(life.vm.output(f"{KUBECTL} get pod worker-1 -o json"))
    assert "deletionTimestamp" not in pod["metadata"]
    node = json.loads(life.vm.output(f"{KUBECTL} get nodes -o json"))["items"][0]
    assert not node["spec"].get("unschedulable")
    life.vm.run(f"{KUBECTL} delete pod worker-1 --grace-period=0 --force", BOOT_DEADLINE_S)


def test_after_docker_was_broken_at_boot_the_agent_comes_back_and_says_that_no_gpu_can_be_used(
    life: Life,
) -> None:
    """Field cases 11.1 and 11.2: at this boot Docker's configuration is broken, and the driver is not loaded."""
    life.vm.run(BREAK_DOCKER_AND_EXPECT_GPUS)
    life.vm.reboot()
    life.vm.wait_for("Docker has failed", lambda: _unit_is(life, "failed", "docker"), BOOT_DEADLINE_S)
    assert not _unit_is(life, "failed", "beta9-worker")
    before = _registrations(life)
    life.vm.run(
        "rm /etc/docker/daemon.json && systemctl reset-failed docker && systemctl start docker",
        BOOT_DEADLINE_S,
    )
    life.vm.wait_for("it has registered again", lambda: _registrations(life) > before, BOOT_DEADLINE_S)
    life.vm.wait_for("it is READY", lambda: life.status().get("state") == "READY", BOOT_DEADLINE_S)
    capacity = life.status()["capacity"]
    assert not capacity["offered"]
    assert "no GPU can be used: there is an NVIDIA device" in capacity["reason"]
    assert "no GPU can be used" in life.vm.output("beta9-worker status", BOOT_DEADLINE_S)
    found = json.loads(life.vm.run("beta9-worker doctor --json", BOOT_DEADLINE_S, ok=False).stdout)
    assert [each for each in found["checks"] if each["name"] == "nvidia driver" and each["verdict"] == "fail"]
    life.vm.run("systemctl stop beta9-worker", BOOT_DEADLINE_S)
    alone = life.vm.run("beta9-worker status", BOOT_DEADLINE_S, ok=False)
    assert "no agent answers" in alone.stderr
    assert "Docker cannot give a container the GPUs" in alone.stderr
    life.vm.run(
        "sed -i 's/^AGENT_OPTIONS=.*/AGENT_OPTIONS=/' /var/lib/beta9-worker/bootstrap/agent.env; rm -r /opt/pci"
    )
    life.vm.run("systemctl start beta9-worker", BOOT_DEADLINE_S)
    life.site.wait_ready(life.vm, life.machine, BOOT_DEADLINE_S)


def test_a_scratch_disk_that_comes_up_empty_is_made_again(life: Life) -> None:
    """An EC2 instance that was stopped and started, or any machine with local SSDs: all that was on them is gone."""
    identity = life.vm.output("cat /etc/machine-id"), life.status()["machine_id"]
    before = _registrations(life)
    began_s = time.monotonic()
    life.vm.run("systemctl poweroff", ok=False)
    life.vm.wait_off()
    life.vm.empty_scratch()
    life.vm.start()
    life.vm.wait_ssh()
    life.vm.wait_for("it has registered again", lambda: _registrations(life) > before, INSTALL_DEADLINE_S)
    life.site.wait_ready(life.vm, life.machine, INSTALL_DEADLINE_S)
    life.report.append(f"from power-on with an empty scratch disk to ready: {seconds_since(began_s)}")
    for path in ("/var/lib/docker", "/var/lib/rancher"):
        assert "nvme0n1" in life.vm.output(f"findmnt -rno SOURCE --target {path}")
    assert (life.vm.output("cat /etc/machine-id"), life.status()["machine_id"]) == identity


def test_the_uninstaller_leaves_no_trace(life: Life) -> None:
    life.vm.run("bash /opt/beta9-worker/current/bootstrap/uninstall.sh --purge", INSTALL_DEADLINE_S)
    differences = _BEFORE[0].differences(inventory.take(life.vm))
    # Files written by the user-data are removed as well.
    assert [each for each in differences if not _is_from_user_data(each)] == []


def _registrations(life: Life) -> int:
    entry = life.site.gateway.machine(life.machine.machine_id)
    return entry.registrations if entry else 0


def _unit_is(life: Life, state: str, unit: str) -> bool:
    return life.vm.run(f"systemctl is-{state} --quiet {unit}", ok=False).code == 0


def _is_from_user_data(difference: str) -> bool:
    return difference.startswith("- ") and (
        "/etc/beta9-worker" in difference or "/opt/beta9-worker" in difference
    )
