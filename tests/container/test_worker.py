"""A machine that joins by `docker run`: through a real sshd, as the same machine whatever happens to it."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.container.docker_cli import attempt, docker
from tests.container.site import DEADLINE_S, Machine, Site
from tests.integration.lab import wait_for

pytestmark = pytest.mark.container

BARE = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""The least-privileged line of docs/docker.md; test_docs.py runs it as it stands there."""
GRACE_S = 110


def test_it_becomes_ready_and_says_that_it_has_no_gpu(site: Site) -> None:
    machine = site.new_machine()
    worker = site.run_ready(machine)
    status = worker.status()
    assert status["machine_id"] == machine.machine_id
    assert status["gpus"] == []
    assert status["capacity"]["gpu_count"] == 0
    offering = worker.events("offering")
    assert all(each["what"] == "nothing" for each in offering)  # no k3s here
    assert status["capacity"]["reason"]
    told = worker.execute("sh", "-c", "beta9-worker doctor || true")
    assert re.search(r"skip +gpu +no GPU of NVIDIA", told)


def test_docker_stop_drains_and_ends_well_inside_the_grace(site: Site) -> None:
    machine = site.new_machine()
    worker = site.run_ready(machine)
    began_s = time.monotonic()
    docker("stop", "--time", str(GRACE_S), worker.name)
    assert time.monotonic() - began_s < GRACE_S
    assert worker.exit_code() == 0
    assert [each["step"] for each in worker.events("drain")][-1] == "farewell"
    last = site.gateway("requests", route="register", machine_id=machine.machine_id)[-1]
    assert (last["body"]["cpu"], last["body"]["memory"]) == ("0m", "0Mi")


def test_a_killed_one_comes_back_as_the_same_machine(site: Site) -> None:
    """The id is not in the settings here, but made by the agent and kept in the volume."""
    machine = site.new_machine(BETA9_MACHINE_ID="")
    worker = site.run(machine)
    wait_for("READY", worker.is_ready, DEADLINE_S)
    own_id = worker.status()["machine_id"]
    assert re.fullmatch("[0-9a-f]{8}", own_id)
    docker("kill", worker.name)
    assert worker.exit_code() == 137
    docker("start", worker.name)
    wait_for("READY again", worker.is_ready, DEADLINE_S)
    assert worker.status()["machine_id"] == own_id
    docker("rm", "--force", worker.name)
    another = site.run(machine)
    wait_for("READY in another container", another.is_ready, DEADLINE_S)
    assert another.status()["machine_id"] == own_id


def test_a_network_that_was_cut_heals(site: Site) -> None:
    machine = site.new_machine()
    worker = site.run_ready(machine)
    before = worker.status()["tunnel"]["generation"]
    docker("network", "disconnect", site.network, worker.name)
    wait_for(
        "the loss is noticed", lambda: worker.status().get("state") in {"CONNECTING", "BACKOFF"}, DEADLINE_S
    )
    assert worker.exit_code() is None
    docker("network", "connect", site.network, worker.name)
    site.wait_ready(worker, machine)
    assert worker.status()["tunnel"]["generation"] > before
    assert worker.status()["machine_id"] == machine.machine_id


def test_the_health_check_turns_when_the_agent_hangs_and_back(site: Site) -> None:
    quick = (
        "--health-interval",
        "1s",
        "--health-retries",
        "2",
        "--health-timeout",
        "10s",
        "--health-start-period",
        "0s",
    )
    worker = site.run_ready(site.new_machine(), *quick)
    wait_for("healthy", lambda: worker.health() == "healthy", DEADLINE_S)
    agent = worker.execute("sh", "-c", "pgrep -P 1").strip()
    worker.execute("kill", "-STOP", agent)
    wait_for("unhealthy", lambda: worker.health() == "unhealthy", DEADLINE_S)
    worker.execute("kill", "-CONT", agent)
    wait_for("healthy again", lambda: worker.health() == "healthy", DEADLINE_S)


def test_a_gateway_that_is_away_makes_nobody_unhealthy(site: Site) -> None:
    """A check that failed then would have the agent restarted, and an outage made worse."""
    quick = ("--health-interval", "1s", "--health-retries", "1", "--health-start-period", "0s")
    worker = site.run_ready(site.new_machine(), *quick)
    docker("network", "disconnect", site.network, worker.name)
    wait_for("the loss is noticed", lambda: worker.status().get("state") != "READY", DEADLINE_S)
    known = {check["Start"] for check in worker.inspect()["State"]["Health"]["Log"]}

    def later() -> list[int]:
        log = worker.inspect()["State"]["Health"]["Log"]
        return [check["ExitCode"] for check in log if check["Start"] not in known]

    wait_for("three more checks", lambda: len(later()) >= 3, DEADLINE_S)
    assert set(later()) == {0}
    assert worker.health() == "healthy"


def test_no_secret_is_where_docker_shows_things(site: Site, image: str) -> None:
    machine = site.new_machine()
    worker = site.run_ready(machine, "-e", "BETA9_LOG_LEVEL=debug")
    docker("stop", "--time", str(GRACE_S), worker.name)
    key = (machine.etc / "secrets/ssh_key").read_text(encoding="utf-8").splitlines()
    secrets = [machine.token, *(line for line in key if "-----" not in line and len(line) > 20)]
    assert len(secrets) > 3
    shown = {
        "inspect": docker("inspect", worker.name),
        "logs": worker.logs(),
        "history": docker("history", "--no-trunc", image),
        "image": docker("image", "inspect", image),
        "top": attempt("top", worker.name).output,
    }
    assert worker.logs().count("\n") > 10
    found = [(place, secret[:4]) for place, text in shown.items() for secret in secrets if secret in text]
    assert found == []


@pytest.mark.parametrize("user", ["root", "beta9"])
def test_it_runs_read_only_and_without_any_capability(site: Site, user: str) -> None:
    machine = site.new_machine(**({} if user == "root" else {"BETA9_STATE_DIR": "/home/beta9/state"}))
    as_beta9 = () if user == "root" else ("--user", user, "-v", f"{machine.state}-home:/home/beta9")
    if user != "root":
        own(machine)
        site.stack.callback(attempt, "volume", "rm", "--force", f"{machine.state}-home")
    worker = site.run_ready(machine, *BARE, *as_beta9)
    caps = worker.execute("sh", "-c", "grep CapEff /proc/1/status").split()[1]
    assert int(caps, 16) == 0
    assert attempt("exec", worker.name, "touch", "/usr/touched").code != 0


def own(machine: Machine) -> None:
    """Hand the machine's files to the image's user."""
    for path in (machine.etc, *machine.etc.rglob("*")):
        os.chown(path, 1000, 1000)


def test_with_docker_s_socket_containers_are_counted(site: Site) -> None:
    socket = (
        docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip().removeprefix("unix://")
    )
    machine = site.new_machine(BETA9_KEEPALIVE_INTERVAL="5")
    site.run_ready(machine, *BARE, "-v", f"{socket}:/var/run/docker.sock")

    def counted() -> int:
        keepalives = site.gateway("requests", route="keepalive", machine_id=machine.machine_id)
        return max((each["body"]["metrics"]["container_count"] for each in keepalives), default=0)

    running = len(docker("ps", "--quiet").split())
    assert wait_for("a count", counted, DEADLINE_S) >= min(running, 4)
