"""Measures the relay on a gateway's host against a plain `ssh -R`, both in one run.

    python -m scripts.bench_relay [--runs 5] [--mib 256] [--connections 5000]

sshd, the ssh clients, relay, hairpin and packet filter are the real ones, in network namespaces; needs root. Both
ways lead through the same sshd to the same server, in turns, so that the machine's load concerns both alike.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.bench import Row, cpu_s, pss_mib, show
from tests.gateway.machine import HairpinProcess
from tests.gateway.relay_lab import HAIRPIN, Site, missing, saying, server, site
from tests.integration.polling import wait_for
from tests.integration.ssh_client import Ssh

ADDRESS, PLAIN = "127.70.1.1", "127.72.3.3"
ANY = "0.0.0.0"
ECHO, SOURCE, HOLD = 7001, 7002, 7003
GIB = 1 << 30


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_relay", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="transfers each way; medians are shown")
    parser.add_argument("--mib", type=int, default=256, help="size of a transfer")
    parser.add_argument("--connections", type=int, default=5000)
    args = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"the relay was not measured: {reason}")
        return 0
    load = os.getloadavg()[0]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="beta9-bench-") as place, site(Path(place)) as lab:
        lab.relay.start()
        lab.machine(ADDRESS)
        with _hairpin(lab):
            with _plain(lab), server(lab.net.near, ANY, ECHO, saying(b"")), _source(lab, args.mib << 20):
                rows = [*transfer_rows(lab, args.runs, args.mib), *latency_rows(lab), dials_row(lab)]
            rows.append(memory_row(lab, args.connections))
    show(rows, load)
    return 0


@contextmanager
def _hairpin(lab: Site) -> Iterator[None]:
    """Replace the site's bare address by the agent's own hairpin, which is part of the way that is measured."""
    lab.net.near.run("ip", "addr", "del", f"{HAIRPIN}/32", "dev", "lo")
    with HairpinProcess(lab.net.near) as hairpin:
        found = hairpin.check()
        if found["fault"]:
            raise RuntimeError(f"no hairpin: {found['fault']}")
        yield


@contextmanager
def _plain(lab: Site) -> Iterator[None]:
    forwards = [part for port in (ECHO, SOURCE) for part in ("-R", f"{PLAIN}:{port}:127.0.0.1:{port}")]
    with Ssh(lab.sshd, *forwards, prefix=lab.net.near.prefix):
        wait_for("the plain forwards", lambda: lab.listens(PLAIN, ECHO) and lab.listens(PLAIN, SOURCE))
        yield


@contextmanager
def _source(lab: Site, size: int) -> Iterator[None]:
    chunk = bytes(1 << 20)

    def serve(connection: socket.socket) -> None:
        for _ in range(size >> 20):
            connection.sendall(chunk)

    with server(lab.net.near, ANY, SOURCE, serve):
        yield


def transfer_rows(lab: Site, runs: int, mib: int) -> list[Row]:
    """Measure the throughput from a machine, and the relay's CPU time for it."""
    took_s: dict[str, list[float]] = {PLAIN: [], ADDRESS: []}
    relay_s: list[float] = []
    for _ in range(runs):
        for address, times in took_s.items():
            before_s = cpu_s(lab.relay.pid)
            times.append(_transfer_s(lab, address, mib << 20))
            if address == ADDRESS:
                relay_s.append(cpu_s(lab.relay.pid) - before_s)
    plain, relayed = (mib / statistics.median(took_s[address]) for address in (PLAIN, ADDRESS))
    per_gib_s = statistics.median(relay_s) * GIB / (mib << 20)
    return [
        Row(
            "relay: throughput ÷ plain -R",
            f"{relayed / plain:.2f}",
            "≥ 0.8",
            f"{relayed:.0f} ÷ {plain:.0f} MiB/s; medians of {runs} transfers of {mib} MiB",
        ),
        Row("relay: CPU time of its own", f"{per_gib_s:.2f} s/GiB", "", f"median of {runs}"),
    ]


def _transfer_s(lab: Site, address: str, size: int) -> float:
    buffer = bytearray(1 << 20)
    with lab.dial(address, SOURCE) as connection:
        began_s = time.monotonic()
        received = 0
        while count := connection.recv_into(buffer):
            received += count
        if received != size:
            raise RuntimeError(f"{received} bytes of {size} arrived")
        return time.monotonic() - began_s


def latency_rows(lab: Site, times: int = 400) -> list[Row]:
    """Measure a small question and its answer on an open connection, and opening one."""
    asked = {address: _asked_s(lab, address, times) for address in (PLAIN, ADDRESS)}
    dialled = {address: _dialled_s(lab, address, times) for address in (PLAIN, ADDRESS)}
    added_ms = 1000 * (statistics.median(asked[ADDRESS]) - statistics.median(asked[PLAIN]))
    first_byte = {address: 1000 * statistics.median(each) for address, each in dialled.items()}
    return [
        Row(
            "relay: added latency, median",
            f"{added_ms:.2f} ms",
            "≤ 1 ms",
            f"1 byte and back; plain {1000 * statistics.median(asked[PLAIN]):.2f} ms; {times} times each",
        ),
        Row(
            "relay: dial and first answer, median",
            f"{first_byte[ADDRESS]:.1f} ms",
            "",
            f"plain {first_byte[PLAIN]:.1f} ms; {times} times each",
        ),
    ]


def _asked_s(lab: Site, address: str, times: int) -> list[float]:
    with lab.dial(address, ECHO) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return [_timed(lambda: (connection.send(b"x"), connection.recv(1))) for _ in range(times)]


def _dialled_s(lab: Site, address: str, times: int) -> list[float]:
    return [_timed(lambda: lab.ask(address, ECHO, b"x")) for _ in range(times)]


def _timed(action: Callable[[], object]) -> float:
    began_s = time.monotonic()
    action()
    return time.monotonic() - began_s


def dials_row(lab: Site, times: int = 250, at_once: int = 8) -> Row:
    """Measure how many connections a second are opened, used for one byte, and closed."""

    def dial() -> None:
        for _ in range(times):
            lab.ask(ADDRESS, ECHO, b"x")

    before_s, began_s = cpu_s(lab.relay.pid), time.monotonic()
    threads = [threading.Thread(target=dial) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s, total = time.monotonic() - began_s, times * at_once
    own_ms = 1000 * (cpu_s(lab.relay.pid) - before_s) / total
    how = f"{at_once} at a time, {total} in all; {own_ms:.2f} ms of the relay's CPU time each"
    return Row("relay: connections per second", f"{total / took_s:.0f}", "", how)


def memory_row(lab: Site, connections: int) -> Row:
    """Measure the relay's memory with so many open connections, each of which has carried data.

    They are spread over machines, since ssh looks at all its connections whenever something happens on one.
    """
    machines = [lab.machine(f"127.80.0.{n}").address for n in range(1, 11)]
    accepted: list[socket.socket] = []
    before_mib = pss_mib(lab.relay.pid)
    with lab.net.near.inside():
        listener = socket.create_server((ANY, HOLD), backlog=4096)

    def accept() -> None:
        while len(accepted) < connections:
            connection, _ = listener.accept()
            connection.send(b"x" * 1000)
            accepted.append(connection)

    threading.Thread(target=accept, daemon=True).start()
    held = []
    for n in range(connections):
        connection = lab.dial(machines[n % len(machines)], HOLD)
        held.append(connection)
        greeting = connection.recv(1000, socket.MSG_WAITALL)
        if len(greeting) != 1000:
            raise RuntimeError(f"connection {len(held)} ended after {len(greeting)} bytes")
        connection.sendall(greeting)
    mib = pss_mib(lab.relay.pid)
    for each in (*held, *accepted, listener):
        each.close()
    how = f"PSS; {before_mib:.0f} MiB before"
    return Row(f"relay: memory with {connections} connections", f"{mib:.0f} MiB", "≤ 100 MiB", how)


if __name__ == "__main__":
    sys.exit(main())
