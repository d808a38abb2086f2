"""Fault rows 69 to 72: the relay, its rules, and machines that do not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.gateway.relay_lab import HAIRPIN, SSH_PORT, Site, saying, server
from tests.integration.bounds import within
from tests.integration.fault_report import Report
from tests.integration.polling import wait_for

pytestmark = pytest.mark.gateway

ADDRESS, OTHER = "127.70.1.1", "127.71.2.2"
PORT = 34567
AT_ONCE_S = 0.05
PROBE_S = 0.5


@contextmanager
def k3s_of_the_host(lab: Site) -> Iterator[None]:
    """Listen on all addresses, as a gateway's host does that is a k3s server itself."""
    with server(lab.gateway, "0.0.0.0", 6443, saying(b"the host's own k3s ")):
        yield


@pytest.mark.fault(69)
@pytest.mark.parametrize("how", ["killed", "its rules without it", "it without its rules"])
def test_fault_69_relay_or_rules_gone(lab: Site, report: Report, how: str) -> None:
    lab.machine(ADDRESS)
    with k3s_of_the_host(lab), server(lab.net.near, HAIRPIN, 6443, saying(b"k3s ")):
        assert lab.ask(ADDRESS, 6443) == b"k3s ping"
        if how == "it without its rules":
            _without_rules(lab, report)
            return
        if how == "killed":
            with lab.dial(ADDRESS, 6443) as connection:
                lab.relay.kill()
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(100):
                        pass
        else:
            lab.relay.stop()
        took_s = max(lab.refused(ADDRESS, port) for port in (6443, PORT, 1080) for _ in range(20))
        assert took_s <= within(AT_ONCE_S)
        assert lab.relay.call("--check").returncode == 0
        report(f"{how}: refused after {1000 * took_s:.0f} ms at most", took_s)


def _without_rules(lab: Site, report: Report) -> None:
    """Restarting a firewall removes everybody's rules. Without them the kernel answers, or the host's own k3s."""
    assert lab.relay.call("--remove").returncode == 0
    check = lab.relay.call("--check")
    assert check.returncode == 1
    assert "not in place" in check.stdout
    removed_s = time.monotonic()
    wait_for("the relay has put its rules back", lambda: lab.relay.events("relay_rules_restored"))
    took_s = time.monotonic() - removed_s
    assert lab.ask(ADDRESS, 6443) == b"k3s ping"
    report(f"it without its rules: named, and back after {took_s:.1f} s", took_s)


@pytest.mark.fault(70)
def test_fault_70_restarted_under_500_connections(lab: Site, report: Report) -> None:
    lab.machine(ADDRESS)
    with server(lab.net.near, HAIRPIN, PORT, saying(b"hello ")), ExitStack() as stack:
        held = [stack.enter_context(lab.dial(ADDRESS, PORT)) for _ in range(500)]
        assert all(connection.recv(6, socket.MSG_WAITALL) == b"hello " for connection in held)
        lab.relay.kill()
        lab.refused(ADDRESS, PORT)
        began_s = time.monotonic()
        starting = threading.Thread(target=lab.relay.start)
        starting.start()
        wait_for("a new dial is served", lambda: _answers(lab, ADDRESS))
        took_s = time.monotonic() - began_s
        starting.join()
        assert took_s <= within(2)
        for connection in held:  # none of them hangs
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        report(f"a new dial was served {took_s:.2f} s after the start", took_s)


@pytest.mark.fault(71)
def test_fault_71_far_end_closed(lab: Site, report: Report) -> None:
    """The gateway probes a container's port until the app in it listens, here after 12 s."""
    lab.machine(ADDRESS)
    refusals_s: list[float] = []
    began_s = time.monotonic()
    while time.monotonic() - began_s < 12:
        refusals_s.append(lab.refused(ADDRESS, PORT))
        time.sleep(PROBE_S)
    with server(lab.net.near, HAIRPIN, PORT, saying(b"the app ")):
        assert lab.ask(ADDRESS, PORT) == b"the app ping"
    lab.refused(ADDRESS, PORT)
    typical_s = statistics.median(refusals_s)
    assert typical_s <= within(AT_ONCE_S)
    report(
        f"{len(refusals_s)} probes refused, {1000 * typical_s:.1f} ms each; the first one after that served",
        typical_s,
    )


@pytest.mark.fault(72)
def test_fault_72_ssh_client_frozen(lab: Site, report: Report) -> None:
    machine = lab.machine(ADDRESS)
    lab.machine(OTHER)
    answers: list[bool] = []
    with server(lab.net.near, HAIRPIN, PORT, saying(b"hello ")):
        os.kill(machine.pid, signal.SIGSTOP)
        frozen_s = time.monotonic()
        first = threading.Thread(target=lambda: answers.append(lab.refused(ADDRESS, PORT) <= within(4)))
        first.start()
        while first.is_alive():
            answers.append(_answers(lab, OTHER))
        later_s = _probe_until(lab, lambda: not lab.listens(ADDRESS, 1080))
        ended_s = time.monotonic() - frozen_s
        machine.connect()
        assert lab.ask(ADDRESS, PORT) == b"hello ping"
    assert all(answers)
    assert max(later_s) <= within(AT_ONCE_S)
    report(
        f"frozen: refused ≤ 4 s, then at once; its session ended {ended_s:.0f} s after the freeze", ended_s
    )


def test_a_machine_that_thaws_is_dialled_again_at_once(lab: Site) -> None:
    """The stream that went unanswered stays open: its answer ends the back-off."""
    machine = lab.machine(ADDRESS)
    with server(lab.net.near, HAIRPIN, PORT, saying(b"hello ")):
        os.kill(machine.pid, signal.SIGSTOP)
        lab.refused(ADDRESS, PORT)
        assert lab.refused(ADDRESS, PORT) <= within(AT_ONCE_S)
        os.kill(machine.pid, signal.SIGCONT)
        wait_for("it is dialled", lambda: _answers(lab, ADDRESS), 10)
    assert len(lab.relay.events("relay_silent")) == 1
    assert len(lab.relay.events("relay_dials_again")) == 1


def test_a_port_that_is_silent_does_not_take_its_machine_along(lab: Site) -> None:
    """A container whose network is gone: nothing answers, nothing refuses, and ssh goes on asking."""
    lab.machine(ADDRESS)
    silent = ("INPUT", "-d", HAIRPIN, "-p", "tcp", "--dport", str(PORT + 1), "-j", "DROP")
    lab.net.near.run("iptables", "-I", *silent)
    with (
        server(lab.net.near, HAIRPIN, PORT, saying(b"hello ")),
        server(lab.net.near, HAIRPIN, PORT + 1, saying(b"late ")),
    ):
        assert lab.refused(ADDRESS, PORT + 1) <= within(4)
        assert _answers(lab, ADDRESS)
        assert lab.refused(ADDRESS, PORT + 1) <= within(AT_ONCE_S)
        lab.net.near.run("iptables", "-D", *silent)
        wait_for("the port is dialled again", lambda: lab.relay.events("relay_dials_again"))
        assert lab.ask(ADDRESS, PORT + 1) == b"late ping"


@pytest.mark.fault(72)
def test_fault_72_path_cut_for_30_seconds(lab: Site, report: Report) -> None:
    """The machine's agent starts its ssh anew until that succeeds."""
    machine = lab.machine(ADDRESS)
    with server(lab.net.near, HAIRPIN, PORT, saying(b"hello ")):
        with lab.net.dropped(port=SSH_PORT):
            cut_s = time.monotonic()
            first_s = lab.refused(ADDRESS, PORT)
            later_s = _probe_until(lab, lambda: time.monotonic() - cut_s >= 30)
        healed_s = time.monotonic()
        machine.connect()
        wait_for("it is dialled", lambda: _answers(lab, ADDRESS))
        back_s = time.monotonic() - healed_s
    assert first_s <= within(4)
    assert max(later_s) <= within(AT_ONCE_S)
    assert back_s <= within(20)
    report(
        f"path cut: refused after {first_s:.1f} s, then at once; back {back_s:.1f} s after the cut", back_s
    )


def _answers(lab: Site, address: str) -> bool:
    try:
        return lab.ask(address, PORT) == b"hello ping"
    except OSError:
        return False


def _probe_until(lab: Site, ended: Callable[[], bool]) -> list[float]:
    """Probe twice a second; return how long each refusal took."""
    took_s = []
    while not ended():
        took_s.append(lab.refused(ADDRESS, PORT))
        time.sleep(PROBE_S)
    return took_s
