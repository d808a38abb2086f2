"""All of it together: a real agent with its hairpin, sshd, and the real relay on the gateway's host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.gateway.machine import PUBLISHED, container, dial, greeter, traces
from tests.gateway.relay_lab import RelayProcess, missing
from tests.gateway.test_any_port_agent import is_any_port, lab_of, machine
from tests.integration.lab import Lab
from tests.integration.netns import wire
from tests.integration.polling import wait_for

pytestmark = pytest.mark.gateway


@contextmanager
def relay(lab: Lab) -> Iterator[RelayProcess]:
    running = RelayProcess(lab.far)
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Lab]:
    if missing():
        pytest.skip(str(missing()))
    with wire() as net, lab_of(net, tmp_path) as lab:
        yield lab


def test_the_gateway_reaches_workers_and_containers_by_the_machines_address(site: Lab) -> None:
    with ExitStack() as stack:
        stack.enter_context(relay(site))
        agent = machine(site).start()
        agent.wait_back()
        assert is_any_port(agent)
        assert agent.status()["functions"]["can_run"]
        address = agent.status()["tunnel"]["reverse"]["address"]
        assert (site.gateway.machine(agent.machine_id) or {})["hostname"] == address
        stack.enter_context(container(site.near))
        stack.enter_context(greeter(site.near, "0.0.0.0", 4000, b"grpc"))
        stack.enter_context(greeter(site.near, "127.0.0.1", 4001, b"secret"))
        assert dial(site.far, PUBLISHED, address).answer == b"container"
        assert dial(site.far, 4000, address).answer == b"grpc"
        for closed in (4001, 4002):
            assert dial(site.far, closed, address).error == "Connection refused"


def test_a_relay_that_is_set_up_later_is_taken_up_without_a_restart(site: Lab) -> None:
    agent = machine(site).start()
    agent.wait_back()
    assert not is_any_port(agent)
    registered = agent.status()["registration"]["times"]
    with relay(site):
        wait_for("any port", lambda: is_any_port(agent))
        agent.wait_back()
        assert agent.status()["registration"]["times"] == registered
        assert agent.status()["degraded"] == []


def test_doctor_tells_whether_any_port_works(site: Lab) -> None:
    def finding() -> tuple[str, str]:
        checks = json.loads(agent.command("doctor", "--json").stdout)["checks"]
        (found,) = (each for each in checks if each["name"] == "any port")
        return found["verdict"], found["seen"]

    agent = machine(site)
    verdict, seen = finding()
    assert verdict == "ok"
    assert "tried out, and removed again" in seen
    assert traces(site.near) == ""
    with relay(site):
        agent.start()
        agent.wait_back()
        assert finding() == (
            "ok",
            "the gateway reaches any port of this machine, by way of the running agent",
        )
        agent.stop()
    site.near.run("ip", "address", "add", "192.168.1.77/24", "dev", "wire0")
    verdict, seen = finding()
    assert verdict == "fail"
    assert "192.168.1.0/24" in seen
    site.near.run("ip", "route", "add", "198.18.0.0/15", "via", site.far.address)
    verdict, seen = finding()
    assert verdict == "fail"
    assert "198.18.0.0/15" in seen
