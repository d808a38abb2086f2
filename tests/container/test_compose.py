"""compose.yaml: all services become healthy, and work is placed on the machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.container.site import DEADLINE_S, Site
from tests.integration.lab import wait_for

pytestmark = pytest.mark.container

SERVICES = ("sshd", "gateway", "worker", "k3s")


def test_every_service_becomes_healthy(site: Site) -> None:
    def unhealthy() -> list[str]:
        return [service for service in SERVICES if site.service(service).health() != "healthy"]

    wait_for("all are healthy", lambda: unhealthy() == [], DEADLINE_S)


def test_work_is_placed_through_the_reverse_tunnel(site: Site) -> None:
    worker = site.service("worker")
    wait_for("ready", worker.is_ready, DEADLINE_S)
    job = wait_for("a worker", lambda: site.gateway("workers", pool="gpu"), DEADLINE_S)[0]
    assert job["machine_id"] == "1165a9b6"
    status = worker.status()
    assert status["capacity"]["offered"] is True
    assert status["tunnel"]["reverse"]["up"] is True


def test_the_worker_has_no_privilege(site: Site) -> None:
    host: dict[str, Any] = site.service("worker").inspect()["HostConfig"]
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["ReadonlyRootfs"] is True
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
