"""What the embedded gateway does with workers' containers: one dial for the log, probes, and pages through itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from agent.demo.gateway.worker_job import Worker
from agent.demo.messages import Request
from agent.demo.serving.dials import dial
from agent.demo.serving.workloads import Workloads
from agent.demo.worker.lines import LineServer
from tests.contract.waiting import wait_until

WORKER = Worker("abcd", "1165a9b6", "key", "gpu", 1000, 1024, 0, token="secret")
ID = {"worker_id": WORKER.worker_id, "token": WORKER.token}


def worker_of(worker_id: str, token: str) -> Worker:
    if (worker_id, token) != (WORKER.worker_id, WORKER.token):
        raise PermissionError(worker_id)
    return WORKER


@pytest.fixture
def workloads() -> Workloads:
    return Workloads(worker_of)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def silent_worker() -> LineServer:
    """Start a worker whose containers print nothing and do not end."""

    def logs(container_id: str) -> Iterator[Mapping[str, object]]:
        threading.Event().wait(30)
        yield {"line": container_id}

    port = LineServer({"logs": logs})
    port.start()
    return port


def started(workloads: Workloads, port: int, kind: str = "function", published: int = 0) -> str:
    """Let the worker, which listens on `port`, take a container that is published on `published`."""
    container_id = workloads.run(kind, ["true"], 8001 if published else None)
    workloads.worker_started(**ID, address=f"127.0.0.1:{port}")
    taken = workloads.next_container(**ID, wait_s=0)
    assert taken is not None
    assert taken["container_id"] == container_id
    workloads.container_started(container_id, f"127.0.0.1:{published}" if published else "")
    return container_id


def test_a_worker_s_port_that_is_not_open_yet_is_never_dialled_again(workloads: Workloads) -> None:
    container = started(workloads, closed_port())
    wait_until(lambda: workloads.container(container)["error"])
    assert workloads.container(container)["error"].endswith("Connection refused")
    assert workloads.container(container)["lines"] == []


def test_the_log_comes_line_by_line_and_its_end_is_told_from_a_break(workloads: Workloads) -> None:
    go_on = threading.Event()

    def logs(container_id: str) -> Iterator[Mapping[str, object]]:
        yield {"line": f"hello from {container_id}"}
        go_on.wait(30)
        yield from ends

    ends: list[Mapping[str, object]] = [{"exit_code": 3}]
    port = LineServer({"logs": logs})
    port.start()
    try:
        first = started(workloads, port.port)
        wait_until(lambda: workloads.container(first)["lines"])
        assert workloads.container(first)["exit_code"] is None
        go_on.set()
        wait_until(lambda: workloads.container(first)["exit_code"] == 3)
        assert workloads.container(first)["error"] == ""
        ends.clear()
        second = started(workloads, port.port)
        wait_until(lambda: workloads.container(second)["error"] == "the log broke off")
        with pytest.raises(LookupError, match="cancel"):
            workloads.cancel(second)
    finally:
        port.stop()


def test_whoever_accepts_before_the_app_listens_has_an_empty_page_served(workloads: Workloads) -> None:
    """As on the real gateway: the reason why nothing between it and a container may do that."""
    port = silent_worker()
    with socket.create_server(("127.0.0.1", 0)) as relay:

        def accept_and_close() -> None:
            for _ in ("the probe", "the request"):
                with relay.accept()[0] as connection:
                    connection.recv(1000)

        threading.Thread(target=accept_and_close, daemon=True).start()
        container = started(workloads, port.port, "pod", relay.getsockname()[1])
        reply = workloads.serve(Request("GET", f"/pod/id/{container}/x"))
        assert (reply.status, reply.body) == (200, b"")
    port.stop()


def test_a_refused_probe_is_waited_for(workloads: Workloads) -> None:
    closed = closed_port()
    port = silent_worker()
    container = started(workloads, port.port, "endpoint", closed)
    wait_until(lambda: workloads.container(container)["refused_probes"] >= 2)
    assert not workloads.container(container)["ready"]
    port.stop()


def test_only_a_worker_that_is_still_known_gets_a_container(workloads: Workloads) -> None:
    workloads.run("function", ["true"], machine_id="another")
    assert workloads.next_container(**ID, wait_s=0) is None
    workloads.run("function", ["true"])
    with pytest.raises(PermissionError):
        workloads.next_container(WORKER.worker_id, "stolen", wait_s=0)
    assert workloads.next_container(**ID, wait_s=0) is not None


def test_a_dial_reports_the_answer_or_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(connection.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        assert dial("127.0.0.1", server.getsockname()[1], "ping")["answer"] == "PING"
    assert dial("127.0.0.1", closed_port())["error"] == "Connection refused"
