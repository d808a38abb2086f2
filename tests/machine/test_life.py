"""A machine's life: created from user-data, given its secrets, reinstalled, rebooted, uninstalled.

All tests share one machine, since booting takes minutes: each continues where the previous one ended.
"""

from __future__ import annotations

import socket
import ssl
import time

import pytest

from tests.machine import inventory
from tests.machine.inventory import Inventory
from tests.machine.life import INSTALL, INSTALL_DEADLINE_S, Life, seconds_since
from tests.machine.vm import BOOT_DEADLINE_S, HOST

pytestmark = [pytest.mark.machine, pytest.mark.timeout(2 * INSTALL_DEADLINE_S)]

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
    assert status["capacity"]["offered"]
    assert status["tunnel"]["reverse"]["up"]


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


def test_the_uninstaller_leaves_no_trace(life: Life) -> None:
    life.vm.run("bash /opt/beta9-worker/current/bootstrap/uninstall.sh --purge", INSTALL_DEADLINE_S)
    differences = _BEFORE[0].differences(inventory.take(life.vm))
    # Files written by the user-data are removed as well.
    assert [each for each in differences if not _is_from_user_data(each)] == []


def _registrations(life: Life) -> int:
    entry = life.site.gateway.machine(life.machine.machine_id)
    return entry.registrations if entry else 0


def _is_from_user_data(difference: str) -> bool:
    return difference.startswith("- ") and (
        "/etc/beta9-worker" in difference or "/opt/beta9-worker" in difference
    )
