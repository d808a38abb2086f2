"""A whole site: what the gateway reaches at machines that reach nothing but its host's sshd, and what it must not."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Iterator

import pytest

from agent.adapters.process.run import run
from agent.core.tunnel.addresses import candidates
from tests import ROOT
from tests.gateway.machine import greeter
from tests.gateway.relay_lab import saying, server
from tests.gateway.site.site_lab import DOMAIN, HOSTS_K3S, Machine, Site, whole_site
from tests.integration.agent_process import command_line
from tests.integration.bounds import within
from tests.integration.polling import wait_for
from tests.integration.ssh_client import Ssh

pytestmark = [pytest.mark.gateway, pytest.mark.xdist_group("site")]

APP = (sys.executable, str(ROOT / "tests" / "gateway" / "site" / "app.py"))
APP_PORT = 8001
AGENT_API_ID, ABSENT_ID = "0000a9e1", "00000dea"
TLS_HANDSHAKE = b"\x16"
REFUSED = "Connection refused"
NO_NAME = "Name or service not known"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with whole_site(tmp_path_factory.mktemp("site")) as site:
        with site.host_k3s():
            for machine in site.machines[:2]:
                machine.agent.start()
            for machine in site.machines[:2]:
                machine.agent.wait_back()
        site.lab.gateway.set_demand("gpu", 2)
        yield site


@pytest.fixture
def site(ready: Site) -> Iterator[Site]:
    with ready.host_k3s():
        for machine in ready.machines[:2]:
            machine.agent.wait_back()
            machine.worker_id()
        yield ready


def app(site: Site, machine: Machine, kind: str = "pod", pause_s: float = 0) -> str:
    """Start an app in a container on a machine; return the container's id."""
    command = [*APP, f"app on {machine.id}", str(APP_PORT), str(pause_s)]
    return site.lab.gateway.run(kind, command, APP_PORT, machine.id)


def reverse_reason(machine: Machine) -> str:
    """Return why the machine's reverse path is not up."""
    return str(machine.agent.status().get("tunnel", {}).get("reverse", {}).get("reason"))


def is_ready(site: Site, container_id: str) -> bool:
    return bool(site.lab.gateway.container(container_id)["ready"])


def has_lines(site: Site, container_id: str, count: int) -> bool:
    return len(site.lab.gateway.container(container_id)["lines"]) >= count


def ended(site: Site, container_id: str) -> dict[str, object]:
    """Wait until a container is over; return what the gateway knows of it."""

    def find() -> dict[str, object] | None:
        container = site.lab.gateway.container(container_id)
        return container if container["exit_code"] is not None or container["error"] else None

    return wait_for(f"{container_id} is over", find)


def test_each_machine_is_reached_by_its_address_and_by_its_name(site: Site) -> None:
    gateway = site.lab.gateway
    with server(site.gateway, candidates(AGENT_API_ID)[2], 29443, saying(b"agent API ")):
        for machine in site.machines[:2]:
            pod = app(site, machine)
            wait_for("the pod is ready", functools.partial(is_ready, site, pod))
            published = int(gateway.container(pod)["address"].rpartition(":")[2])
            assert gateway.container(pod)["address"] == f"{machine.name}:{published}"
            jobs = [each["job_name"] for each in gateway.workers() if each["machine_id"] == machine.id]
            for host in machine.hosts:
                assert set(jobs) <= set(gateway.jobs(host, machine.id))
                said = gateway.dial(host, machine.worker_port(), '{"call": "worker"}\n')
                assert json.loads(said["answer"])["worker_id"] == machine.worker_id()
                page = gateway.dial(host, published, "GET /x HTTP/1.0\r\n\r\n")["answer"]
                assert page.endswith(f"app on {machine.id} /x")
            gateway.cancel(pod)
        for host in (candidates(AGENT_API_ID)[2], f"machine-{AGENT_API_ID}.{DOMAIN}"):
            assert gateway.dial(host, 29443, "ping")["answer"] == "agent API ping"
        assert gateway.dial("127.0.0.1", 6443, "ping")["answer"] == f"{HOSTS_K3S.decode()}ping"


def test_cold_functions_lose_nothing_of_their_log(site: Site) -> None:
    """The gateway dials a new worker's port once, a tenth of a second after it listens: refused, all is lost."""
    for _ in range(3):
        for machine in site.machines[:2]:
            machine.end_worker()
        runs = [
            site.lab.gateway.run("function", ["sh", "-c", "echo one; echo two"], None, machine.id)
            for machine in site.machines[:2]
        ]
        for started in runs:
            done = ended(site, started)
            assert (done["lines"], done["exit_code"], done["error"]) == (["one", "two"], 0, "")


def test_a_worker_that_was_killed_is_started_again_and_reached(site: Site) -> None:
    machine = site.machines[0]
    port, worker_id = machine.worker_port(), machine.worker_id()
    pids = [int(pid) for pid in machine.place.run("ip", "netns", "pids", machine.place.name).split()]
    (worker,) = [pid for pid in pids if command_line(pid)[1:3] == ["-m", "agent.demo.worker"]]
    os.kill(worker, signal.SIGKILL)
    wait_for("it listens elsewhere", lambda: machine.worker_port() != port)
    assert machine.worker_id() == worker_id
    done = ended(site, site.lab.gateway.run("function", ["echo", "again"], None, machine.id))
    assert (done["lines"], done["error"]) == (["again"], "")


def test_log_stream_exec_and_cancel_go_through_the_worker_s_port(site: Site) -> None:
    gateway = site.lab.gateway
    for machine in site.machines[:2]:
        ticking = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done"
        ticker = gateway.run("function", ["sh", "-c", ticking], None, machine.id)
        wait_for("lines of the log", functools.partial(has_lines, site, ticker, 3))
        assert gateway.container(ticker)["exit_code"] is None
        shown = gateway.execute(ticker, "ip", "-4", "-o", "address", "show", "dev", "eth0")
        assert shown["exit_code"] == 0
        assert "192.168.1." in shown["output"]
        assert gateway.execute(ticker, "sh", "-c", "echo broken; exit 3") == {
            "exit_code": 3,
            "output": "broken\n",
        }
        gateway.cancel(ticker)
        done = ended(site, ticker)
        assert done["error"] == ""
        assert done["exit_code"] == -signal.SIGTERM
        assert done["lines"][:2] == ["tick 0", "tick 1"]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["pod", "endpoint"])
def test_nobody_is_served_an_empty_page_while_an_app_starts(site: Site, kind: str) -> None:
    machine = site.machines[1]
    container = app(site, machine, kind, pause_s=2)
    assert site.get(f"/{kind}/id/{container}/hello") == f"app on {machine.id} /hello".encode()
    known = site.lab.gateway.container(container)
    assert known["refused_probes"] >= 2
    assert known["longest_probe_s"] <= within(1)
    site.lab.gateway.cancel(container)


def test_what_is_closed_on_a_machine_is_refused_and_nobody_else_answers(site: Site) -> None:
    machine = site.machines[0]
    with (
        greeter(machine.place, "127.0.0.1", 4001, b"secret"),
        greeter(site.gateway, "0.0.0.0", 4001, b"wrong"),
    ):
        for host in machine.hosts:
            for port in (4000, 4001, 1080):
                refused(site, host, port)
    for port in (6443, 4000, 1080):
        refused(site, candidates(ABSENT_ID)[0], port)
        refused(site, f"machine-{ABSENT_ID}.{DOMAIN}", port, NO_NAME)


def refused(site: Site, host: str, port: int, error: str = REFUSED) -> None:
    """Dial and be refused in time."""
    result = site.lab.gateway.dial(host, port, "ping")
    assert (result["answer"], result["error"]) == ("", error), f"{host}:{port}"
    assert result["took_s"] <= within(4), f"{host}:{port}"


def test_a_machine_whose_ssh_is_frozen_is_refused_and_the_other_goes_on(site: Site) -> None:
    frozen, other = site.machines[:2]
    hosts, port = frozen.hosts, frozen.worker_port()
    running = site.lab.gateway.run("function", ["sh", "-c", "sleep 4; echo done"], None, other.id)
    os.kill(frozen.agent.ssh_pids()["reverse"], signal.SIGSTOP)
    for host in hosts:
        for each in (port, 6443):
            refused(site, host, each)
    done = ended(site, running)
    assert (done["lines"], done["error"]) == (["done"], "")


def test_a_machine_s_key_opens_nothing_of_another_machine(site: Site) -> None:
    one, other = site.machines[:2]

    def tried(*words: str) -> str:
        with Ssh(site.lab.sshd, *words, key=one.key, session=False, prefix=one.place.prefix) as client:
            return client.failed()

    free = next(each for each in candidates(other.id) if each != other.address)
    for port in (1080, 6443):
        assert "remote port forwarding failed" in tried("-R", f"{free}:{port}:127.0.0.1:9")
    for target in (
        *(f"{other.address}:{port}" for port in (6443, 1080, other.worker_port())),
        *(f"{one.address}:{port}" for port in (1080, one.worker_port())),
        f"{other.name}:6443",
        "127.0.0.1:12080",
        "127.0.0.1:6443",
    ):
        assert "administratively prohibited" in tried("-W", target), target
    # Its own k3s it may reach this way, to try its path.
    own = ("-W", f"{one.address}:6443")
    with Ssh(site.lab.sshd, *own, key=one.key, session=False, prefix=one.place.prefix) as client:
        assert client.process.stdin is not None
        assert client.process.stdout is not None
        client.process.stdin.write(client_hello())
        client.process.stdin.flush()
        assert client.process.stdout.read(1) == TLS_HANDSHAKE


def client_hello() -> bytes:
    """Return the first bytes of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


def test_a_machine_that_is_gone_is_refused_and_has_its_name_back_soon_after_it_returns(site: Site) -> None:
    machine = site.machines[0]
    address, name, port = machine.address, machine.name, machine.worker_port()
    machine.agent.signal(signal.SIGKILL)
    machine.agent.wait_exit()
    wait_for("its name is gone", lambda: site.lab.gateway.dial(name, port)["error"] == NO_NAME)
    for each in (port, 6443):
        refused(site, address, each)
    began_s = time.monotonic()
    machine.agent.start()
    call = '{"call": "worker"}\n'
    wait_for("its name is back", lambda: "worker_id" in site.lab.gateway.dial(name, port, call)["answer"])
    assert time.monotonic() - began_s <= within(10)


def test_a_worker_that_does_not_reach_redis_gives_up(site: Site) -> None:
    """As the real one does; its machine has no tunnel yet."""
    config = json.dumps({"database": {"redis": {"addrs": ["127.0.0.1:6379"]}}})
    given = {"CONFIG_JSON": config, "WORKER_ID": "abcd", "WORKER_TOKEN": "none", "POD_HOSTNAME": "machine"}
    argv = [*site.machines[2].place.prefix, sys.executable, "-m", "agent.demo.worker"]
    done = run(argv, timeout_s=60, env={**os.environ, **given}, ok_codes=(1,))
    assert REFUSED in done.stderr


def test_a_plain_machine_lives_beside_them_where_the_host_has_no_k3s(ready: Site) -> None:
    """It holds port 6443 of its own address, which a k3s of the host's on all addresses keeps from it."""
    gateway, plain = ready.lab.gateway, ready.machines[2]
    with ready.host_k3s():
        plain.agent.start()
        wait_for("it is named", lambda: "forwarding failed for listen port 6443" in reverse_reason(plain))
        assert not gateway.would_place(plain.id)[0]
    plain.agent.wait_back()
    gateway.set_demand("gpu", 3)
    plain.worker_id()
    for host in plain.hosts:
        assert gateway.jobs(host, plain.id)
        refused(ready, host, plain.worker_port())
    done = ended(ready, gateway.run("function", ["true"], None, plain.id))
    assert str(done["error"]).endswith(REFUSED)
    for machine in ready.machines[:2]:
        assert machine.agent.is_back()
        assert gateway.jobs(machine.name, machine.id)
        refused(ready, machine.name, 4000)
    plain.agent.signal(signal.SIGKILL)
    wait_for("its port is free", lambda: gateway.dial(plain.name, 6443)["error"] == NO_NAME)
