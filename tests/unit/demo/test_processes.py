"""The embedded gateway and the stand-in for Kubernetes as separate processes, driven by their admin interfaces."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.demo.gateway.admin import GatewayAdmin
from agent.demo.kubernetes.standin import KubernetesAdmin
from agent.demo.listing import age_text, memory_text
from agent.demo.remote import AdminError
from tests.contract.caller import HEALTH, Caller
from tests.contract.waiting import wait_until


@contextmanager
def running(module: str, ready_file: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run the module as a process until it is ready; yield what it wrote into its ready file."""
    command = [sys.executable, "-m", module, "--ready-file", str(ready_file), *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: ready_file.exists() or process.poll() is not None)
            yield json.loads(ready_file.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[dict[str, Any]]:
    options = ("--port", "0", "--pool", "gpu", "--pool", "plain:", "--ttl", "5", "--health-interval", "0.05")
    with running("agent.demo.gateway", tmp_path / "gateway.json", *options) as ready:
        yield ready


@pytest.fixture
def admin(facts: dict[str, Any]) -> GatewayAdmin:
    return GatewayAdmin(facts["admin_url"])


def test_a_machine_joins_a_gateway_in_another_process(facts: dict[str, Any], admin: GatewayAdmin) -> None:
    created = admin.create_machine()
    caller = Caller(facts["port"], created["registration_token"], created["machine_id"])
    assert admin.status(caller.machine_id) == "pending"
    assert caller.register().json["machine_state"]["ttl_seconds"] == 5
    assert admin.would_place(caller.machine_id) == (False, "status is registered")
    caller.keepalive()
    assert admin.would_place(caller.machine_id)[0] is True
    wait_until(lambda: admin.call("pools_healthy") == {"gpu": True, "plain": False})
    assert [entry["route"] for entry in admin.requests(machine_id=caller.machine_id)] == [
        "register",
        "keepalive",
    ]
    assert [machine["machine_id"] for machine in admin.machines()] == [caller.machine_id]
    admin.advance(6)
    assert admin.status(caller.machine_id) is None


def test_an_admin_can_do_what_a_test_needs(facts: dict[str, Any], admin: GatewayAdmin) -> None:
    caller = Caller(facts["port"], admin.new_token(), "1165a9b6")
    caller.register()
    admin.wipe()
    assert caller.keepalive().status == 500
    caller.register()
    assert admin.delete_machine("1165a9b6") == 1
    number = admin.set_fault("status", "register", count=5, status=503)
    assert caller.register().status == 503
    admin.clear_faults(number)
    assert caller.register().status == 200
    admin.redis_down()
    assert caller.get(HEALTH).status == 500
    admin.redis_down(None)
    assert all(secret in caller.register().raw.decode() for secret in admin.secrets())
    admin.set_demand("gpu", 3)
    assert admin.placement()["gpu"]["wanted"] == 3
    assert admin.workers() == []
    assert caller.token is not None
    admin.deactivate_token(caller.token)
    assert caller.register().status == 401


def test_the_machine_api_can_be_stopped_and_started_while_the_admin_interface_stays(
    facts: dict[str, Any], admin: GatewayAdmin
) -> None:
    admin.stop_api()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", facts["port"]))
    admin.start_api()
    assert Caller(facts["port"], None).get(HEALTH).status == 200


def test_a_wrong_admin_call_is_refused_with_the_reason(admin: GatewayAdmin) -> None:
    with pytest.raises(AdminError, match="KeyError"):
        admin.call("explode")
    with pytest.raises(AdminError, match="unknown fault 'explode'"):
        admin.set_fault("explode")
    with pytest.raises(AdminError, match="unexpected keyword"):
        admin.call("machine", id="x")


def test_the_person_at_the_demo_can_create_list_and_delete(facts: dict[str, Any]) -> None:
    def cli(*arguments: str) -> str:
        command = [sys.executable, "-m", "agent.demo.listing", "--admin", facts["admin_url"], *arguments]
        environment = os.environ | {"COLUMNS": "150", "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    machine_id = cli("create", "--pool", "plain").split("'")[1]
    (row,) = [line.split() for line in cli("list").splitlines() if machine_id in line]
    assert (row[:5], row[-3:]) == ([machine_id, "-", "-", "pending", "plain"], ["Never", "-", "0"])
    assert cli("delete", machine_id) == f"Removed 1 of machine '{machine_id}'\n"
    assert "0 items" in cli("list")


def test_a_stand_in_kubernetes_in_another_process_can_be_driven(tmp_path: Path) -> None:
    files = ("--token-file", str(tmp_path / "token"), "--kubeconfig", str(tmp_path / "kubeconfig"))
    options = ("--port", "0", "--gpus", "4", *files)
    with running("agent.demo.kubernetes", tmp_path / "k3s.json", *options) as ready:
        admin = KubernetesAdmin(ready["admin_url"])
        token = (tmp_path / "token").read_text().strip()
        assert json.loads((tmp_path / "kubeconfig").read_text())["users"][0]["user"]["token"] == token
        assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600
        admin.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ready["port"]))
        admin.listen()
        admin.freeze()
        admin.thaw()
        admin.set_node(gpus=1, pressures=["Disk"])
        admin.set_answer(unauthorized=True)
        with pytest.raises(AdminError, match="a node has no colour"):
            admin.set_node(colour="red")
        assert (admin.jobs(), admin.pods(), admin.requests()) == ([], [], [])
        assert len(admin.grant()) > 40


@pytest.mark.parametrize(
    ("mib", "text"), [(1, "1.00 MiB"), (16384, "16.00 GiB"), (1536, "1.50 GiB"), (2**21, "2.00 TiB")]
)
def test_memory_is_written_as_the_cli_writes_it(mib: int, text: str) -> None:
    assert memory_text(mib) == text


@pytest.mark.parametrize(
    ("age_s", "text"),
    [
        (0, "just now"),
        (1, "just now"),
        (2, "2 seconds ago"),
        (61, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (86400, "1 day ago"),
        (6 * 86400, "6 days ago"),
        (30 * 86400, "Sep 09 2001"),
    ],
)
def test_an_age_is_written_as_the_cli_writes_it(age_s: int, text: str) -> None:
    then_s = 1_000_000_000
    assert age_text(str(then_s), then_s + age_s) == text
