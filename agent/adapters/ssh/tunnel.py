"""The OpenSSH children: started, watched and ended as told. What their words mean is the core's to say."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from agent.adapters.process.run import Child, CommandNotFound, spawn
from agent.adapters.ssh.local_ports import is_taken
from agent.core.effects import StartLink
from agent.core.events import Event, LinkComplained, LinkEnded, LinkLoggedIn
from agent.core.policy import Policy
from agent.core.tunnel import ssh_argv, ssh_stderr
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Purpose
from agent.errors import HostKeyError, RejectedError, SettingsError, TransientError

_NO_SSH = Fault(
    FaultKind.NO_SSH,
    "there is no ssh on this machine; install the package openssh-client (Debian, Ubuntu) or openssh-clients",
)


@dataclass
class Tunnel:
    """Every ssh child of this agent. `emit` puts an event on the queue; `endpoint` makes the files ssh needs.

    `endpoint` is asked at every start, so that a rotated key or host key is used at the next connect. It may
    take its time (a secret store): starts happen on a thread of their own, ends at once.
    """

    endpoint: Callable[[], ssh_argv.Endpoint]
    forwards: ssh_argv.Forwards
    policy: Policy
    emit: Callable[[Event], None]
    describe_holder: Callable[[int], str] = field(default=lambda _port: "")
    local: tuple[str, int] | None = None
    """Where the api child listens. Looked at before it starts: while another process holds that port, what
    answers there could pass for the gateway, and would be sent the token."""
    _children: dict[Purpose, Child] = field(default_factory=dict)
    _wanted: dict[Purpose, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _starts: SimpleQueue[StartLink] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._work, name="tunnel", daemon=True).start()

    def start(self, command: StartLink) -> None:
        """Have one child started. What goes wrong is that child's LinkEnded."""
        self.stop(command.purpose)
        with self._lock:
            self._wanted[command.purpose] = command.generation
        self._starts.put(command)

    def stop(self, purpose: Purpose) -> None:
        """End a child at once. The kernel closes its connection, so the far side knows as soon as with TERM."""
        with self._lock:
            self._wanted.pop(purpose, None)
            child = self._children.pop(purpose, None)
        if child is not None:
            child.stop(grace_s=0)

    def stop_all(self) -> None:
        """End every child."""
        for purpose in Purpose:
            self.stop(purpose)

    def _work(self) -> None:
        while True:
            command = self._starts.get()
            trouble = self._try(command)
            if trouble is not None:
                self.emit(LinkEnded(command.purpose, command.generation, trouble))

    def _try(self, command: StartLink) -> Fault | None:
        if command.purpose is Purpose.API and self.local is not None and is_taken(*self.local):
            host, port = self.local
            holder = self.describe_holder(port) or f"port {port} is held by another process"
            text = f"{host}:{port} is taken: {holder}; stop what holds it or set another BETA9_GATEWAY_PORT"
            return Fault(FaultKind.LOCAL_PORT, text)
        try:
            argv = ssh_argv.argv(
                command.purpose,
                self.endpoint(),
                self.forwards,
                self.policy,
                address=command.address,
                session=command.session,
            )
            # Only what is still wanted is started; a stop that comes now waits, and ends the new child.
            with self._lock:
                if self._wanted.get(command.purpose) == command.generation:
                    self._children[command.purpose] = self._spawn(command, argv)
        except CommandNotFound:
            return _NO_SSH
        except (RejectedError, SettingsError, TransientError) as error:
            return Fault(_kind(error), str(error))
        except Exception as error:  # noqa: BLE001 - the top of a thread: it becomes the child's end
            return Fault(FaultKind.EXITED, f"ssh could not be started: {error!r}")
        return None

    def _spawn(self, command: StartLink, argv: tuple[str, ...]) -> Child:
        purpose, generation = command.purpose, command.generation
        lines: deque[str] = deque(maxlen=20)

        def said(line: str) -> None:
            lines.append(line)
            if ssh_stderr.logged_in(line):
                self.emit(LinkLoggedIn(purpose, generation))
            elif (trouble := ssh_stderr.complaint(line)) is not None:
                self.emit(LinkComplained(purpose, generation, trouble))

        def ended(code: int) -> None:
            self.emit(
                LinkEnded(purpose, generation, self._explain(ssh_stderr.fault_at_exit(lines, code), lines))
            )

        return spawn(argv, name=f"ssh-{purpose.value}", on_line=said, on_exit=ended)

    def _explain(self, trouble: Fault, lines: Sequence[str]) -> Fault:
        """Name who holds a local port: the next thing that a person would look for."""
        if trouble.kind is not FaultKind.LOCAL_PORT:
            return trouble
        ports = [int(port) for line in lines for port in _ports(line)]
        holders = [text for port in ports if (text := self.describe_holder(port))]
        return Fault(trouble.kind, f"{trouble.message}; {holders[0]}") if holders else trouble


def _ports(line: str) -> list[str]:
    _, colon, last = line.partition("cannot listen to port: ")
    return [last.strip()] if colon and last.strip().isdigit() else []


def _kind(error: Exception) -> FaultKind:
    if isinstance(error, RejectedError):
        return FaultKind.SECRET
    if isinstance(error, HostKeyError):
        return FaultKind.HOST_KEY
    # Other settings that turn out unusable only here are the key's own.
    return FaultKind.KEY_FILE if isinstance(error, SettingsError) else FaultKind.UNREACHABLE


def probe_sockets(run_dir: Path, count: int) -> tuple[Path, ...]:
    """Where the forwards for the end-to-end probe listen, one per reverse address candidate."""
    return tuple(run_dir / f"probe{n}.sock" for n in range(count))
