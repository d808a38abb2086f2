"""compose.yaml with a k3s that writes its kubeconfig a minute after everything else is up: used at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pytest_docker.plugin import get_docker_services

from tests.container.docker_cli import Container, attempt
from tests.container.site import DEADLINE_S, Site, visiting
from tests.integration.bounds import within
from tests.integration.lab import wait_for

pytestmark = pytest.mark.container

DELAY_S = float(os.environ.get("K3S_DELAY_S") or 60)
OFFERED_WITHIN_S = 10.0
"""From the kubeconfig to the offer (fault row 79)."""
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"


@pytest.fixture
def late_site(docker_compose_command: str, docker_compose_file: str, tmp_path: Path) -> Iterator[Site]:
    """The services under another project name, in addition to those of the other tests."""
    project = f"beta9-late-{os.getpid()}"
    files = [docker_compose_file, str(Path(__file__).parent / "late-k3s.yaml")]
    setup, cleanup = ["up --detach"], ["down --volumes --timeout 20"]
    with (
        get_docker_services(docker_compose_command, files, project, setup, cleanup),
        visiting(project, tmp_path) as site,
    ):
        yield site


def has_kubeconfig(worker: Container) -> bool:
    return attempt("exec", worker.name, "test", "-s", KUBECONFIG).code == 0


def offered_at_s(worker: Container) -> list[float]:
    """Return the times at which the agent decided to offer everything, in seconds since the epoch."""
    times = [each["ts"] for each in worker.events("offering") if each["what"] == "everything"]
    return [datetime.fromisoformat(time).timestamp() for time in times]


def test_a_late_kubeconfig_is_used_and_work_is_placed(
    late_site: Site, record_property: Callable[[str, object], None]
) -> None:
    worker = late_site.service("worker")
    wait_for("the agent waits for k3s", lambda: worker.status().get("state") == "PREPARING", DEADLINE_S)
    started_at = worker.inspect()["State"]["StartedAt"]
    assert not has_kubeconfig(worker)
    wait_for("k3s has started", lambda: has_kubeconfig(worker), DELAY_S + DEADLINE_S)
    wait_for("everything is offered", lambda: offered_at_s(worker), DEADLINE_S)
    # From the times in the file system and the log: each `docker exec` takes seconds on a busy machine.
    took_s = max(offered_at_s(worker)) - float(worker.execute("stat", "-c", "%.3Y", KUBECONFIG))
    assert wait_for("a worker", lambda: late_site.gateway("workers", pool="gpu"), DEADLINE_S)
    wait_for("healthy", lambda: worker.health() == "healthy", DEADLINE_S)
    assert worker.inspect()["State"]["StartedAt"] == started_at, "the worker was restarted"
    record_property("offered_after_s", round(took_s, 1))
    assert took_s < within(OFFERED_WITHIN_S)
