"""Fault rows 36 and 37: the gateway drops the kept-alive connection, or redirects to another host."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.faults.gateway.short_lease import (
    keepalives,
    ready_in,
    wait_for_failure,
    wait_for_recovery,
)
from tests.integration.faults.keepalive_counts import wait_for_keepalives
from tests.integration.lab import Lab
from tests.integration.polling import wait_for


@pytest.mark.fault(36)
def test_fault_36_pooled_connection_dead(lab: Lab, report: Report) -> None:
    agent = ready_in(lab)
    began_s = time.monotonic()
    before = len(keepalives(lab))
    # The gateway closes the pooled connection only once the next call is on it: the agent cannot know before.
    lab.gateway.set_fault("close", route="keepalive", count=1, reset=True)
    wait_for("keepalives accepted afterwards", lambda: len(keepalives(lab)) > before + 2)
    closed = next(n for n, entry in enumerate(keepalives(lab)) if entry["fault"] == "close")
    gap_s = keepalives(lab)[closed + 1]["at_s"] - keepalives(lab)[closed]["at_s"]
    assert gap_s < within(0.3)
    assert agent.status()["counters"]["keepalives"]["failed"] == 0

    # The same if the whole tunnel is replaced: the pooled connection died with the old ssh child.
    generation = agent.status()["tunnel"]["generation"]
    os.kill(agent.ssh_pids()["api"], signal.SIGKILL)
    wait_for("a new tunnel", lambda: agent.status()["tunnel"]["generation"] > generation)
    agent.wait_back()
    wait_for_keepalives(agent, 1)
    assert agent.status()["counters"]["keepalives"]["failed"] == 0

    # A second closed connection in a row is the gateway's fault and counts.
    lab.gateway.set_fault("close", route="keepalive", count=2, reset=True)
    assert wait_for_failure(agent, 0) == "no_answer"
    report(
        f"retried after {gap_s * 1000:.0f} ms, no failure counted, nor after a new tunnel; a second in a row counts",
        time.monotonic() - began_s,
    )


@contextmanager
def other_host() -> Iterator[tuple[str, list[bytes]]]:
    """Run a server on another port. Yields its base URL and the list of what it received."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(2)
                    received.append(connection.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", received
        finally:
            done.set()
            thread.join()


@pytest.mark.fault(37)
def test_fault_37_redirect(lab: Lab, report: Report) -> None:
    with other_host() as (url, received):
        agent = ready_in(lab)
        began_s = time.monotonic()
        for number, status in enumerate((301, 302, 303, 307, 308)):
            lab.gateway.set_fault("redirect", count=2, route="keepalive", status=status, location=f"{url}/x")
            assert wait_for_failure(agent, number) == "bad_reply"
            wait_for_recovery(agent, number)
        took_s = time.monotonic() - began_s
        assert not received
    assert "redirect" in agent.events("keepalive_failed")[0]["text"]
    report(
        "301, 302, 303, 307, 308: no connection to the other host; retried at the gateway",
        took_s,
    )
