"""The processes behind a throwaway sshd's connections: find them, match them to clients, end them reliably."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import TransientError

if TYPE_CHECKING:
    import psutil

END_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Session:
    """One connection. Only root can read its ports (sshd protects its processes); others get None and an empty set."""

    pid: int
    """The process that the listener forked for it."""
    pids: tuple[int, ...]
    """That process and all its descendants."""
    client_port: int | None = None
    """The client's source port, which identifies the client."""
    listens: frozenset[str] = frozenset()
    """`address:port` of every listener that it opened for the client's -R."""

    def signal(self, number: int) -> None:
        """Signal all its processes, ignoring those that have ended."""
        for pid in self.pids:
            _signal(pid, number)


class Sessions:
    """Finds sessions as children of the listener, and remembers those that outlived their listener."""

    def __init__(self) -> None:
        self._kept: list[psutil.Process] = []

    def of(self, listener_pid: int | None, port: int) -> tuple[Session, ...]:
        """Return the sessions of the listener on `port` (None: not running), and those kept from earlier ones."""
        trees = [(root, [root, *_below(root)]) for root in self._roots(listener_pid)]
        sockets = _sockets({process.pid for _, tree in trees for process in tree})
        return tuple(_session(root, tree, sockets, port) for root, tree in trees)

    def end(self, listener_pid: int | None, *, keep_sessions: bool) -> None:
        """End a listener with all sessions, or the listener alone if `keep_sessions`."""
        import psutil  # noqa: PLC0415 - takes 20 ms, and only stopping needs it

        # Stop the listener first, so that it cannot fork a session that this would miss.
        listener = psutil.Process(listener_pid) if listener_pid is not None else None
        if listener is not None:
            listener.send_signal(signal.SIGSTOP)
            _wait_until(lambda: _status(listener) in {psutil.STATUS_STOPPED, *_ENDED}, "stop")
        roots = self._roots(listener_pid)
        doomed = [listener] if listener is not None else []
        if not keep_sessions:
            doomed += [process for root in roots for process in (root, *_below(root))]
        for process in doomed:
            _signal(process.pid, signal.SIGKILL)
        self._kept = roots if keep_sessions else []
        _wait_until(lambda: all(_status(process) in _ENDED for process in doomed), "end")

    def _roots(self, listener_pid: int | None) -> list[psutil.Process]:
        import psutil  # noqa: PLC0415

        self._kept = [process for process in self._kept if _status(process) not in _ENDED]
        if listener_pid is None:
            return list(self._kept)
        try:
            children = psutil.Process(listener_pid).children()
        except psutil.NoSuchProcess:
            children = []
        return self._kept + [child for child in children if _status(child) not in _ENDED]


_GONE = "gone"
_ENDED = frozenset({"zombie", "dead", _GONE})
"""A zombie has ended; reaping it is the job of its parent, often PID 1."""


def _status(process: psutil.Process) -> str:
    import psutil  # noqa: PLC0415

    try:
        return str(process.status()) if process.is_running() else _GONE
    except psutil.NoSuchProcess:
        return _GONE


def _below(process: psutil.Process) -> list[psutil.Process]:
    import psutil  # noqa: PLC0415

    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@dataclass(frozen=True)
class _Socket:
    listening: bool
    address: str
    port: int
    peer_port: int | None


def _sockets(pids: set[int]) -> dict[int, list[_Socket]]:
    """Return the TCP sockets of each process."""
    import psutil  # noqa: PLC0415

    found: dict[int, list[_Socket]] = {pid: [] for pid in pids}
    for entry in psutil.net_connections("tcp4") if pids else []:
        if entry.pid in found and entry.laddr:
            listening = entry.status == psutil.CONN_LISTEN
            peer_port = entry.raddr.port if entry.raddr else None
            found[entry.pid].append(_Socket(listening, entry.laddr.ip, entry.laddr.port, peer_port))
    return found


def _session(
    root: psutil.Process, tree: list[psutil.Process], sockets: dict[int, list[_Socket]], server_port: int
) -> Session:
    own = [entry for process in tree for entry in sockets[process.pid]]
    clients = [entry.peer_port for entry in own if entry.port == server_port and not entry.listening]
    listens = frozenset(f"{entry.address}:{entry.port}" for entry in own if entry.listening)
    return Session(root.pid, tuple(process.pid for process in tree), next(iter(clients), None), listens)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _wait_until(condition: Callable[[], bool], action: str) -> None:
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TransientError(
                f"the throwaway sshd's processes did not {action} within {END_TIMEOUT_S:g} s"
            )
        time.sleep(0.01)
