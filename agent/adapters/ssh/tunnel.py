"""Start, watch and stop the OpenSSH child processes. Interpreting their output is the core's job."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from agent.adapters.process.run import (
    Child,
    CommandNotFound,
    clean_environment,
    spawn,
    wrapper_that_dies_with_parent,
)
from agent.adapters.ssh.local_ports import is_taken
from agent.core.effects import StartLink
from agent.core.events import Event, LinkComplained, LinkEnded, LinkLoggedIn
from agent.core.policy import Policy
from agent.core.tunnel import host_key_pins, ssh_argv, ssh_stderr
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.host_key_pins import ShownKey
from agent.core.tunnel.model import Purpose
from agent.errors import RejectedError, SettingsError, TransientError

_NO_SSH = Fault(
    FaultKind.NO_SSH,
    "there is no ssh on this machine; install the package openssh-client (Debian, Ubuntu) or openssh-clients",
)

_Start = tuple[StartLink, tuple[ShownKey, ...]]
"""A start, and the host keys that were shown and are not pinned: their types are not asked for."""


class Tunnel:
    """All ssh children of this agent.

    Children are started on the tunnel's own thread, because `endpoint` may be slow (a secret store), and are stopped
    immediately.
    """

    def __init__(  # noqa: PLR0913 - wired in one place
        self,
        endpoint: Callable[[], ssh_argv.Endpoint],
        forwards: ssh_argv.Forwards,
        policy: Policy,
        emit: Callable[[Event], None],
        *,
        describe_holder: Callable[[int], str] = lambda _port: "",
        local: tuple[str, int] | None = None,
    ) -> None:
        """Start the thread; no child yet.

        Args:
            endpoint: returns the server, with the files that ssh needs. Called at every start, so that a rotated key
                or host key is used at the next connect.
            forwards: what the children forward.
            policy: ssh's time-outs.
            emit: puts an event on the agent's queue.
            describe_holder: names the process that listens on a local port, "" if unknown.
            local: where the api child listens. The address is checked before each start: another process that holds
                it could pass for the gateway and would be sent the machine token.
        """
        self._endpoint = endpoint
        self._forwards = forwards
        self._policy = policy
        self._emit = emit
        self._describe_holder = describe_holder
        self._local = local
        self._children: dict[Purpose, Child] = {}
        self._wanted: dict[Purpose, int] = {}
        """The generation of the child that should be running."""
        self._refused: tuple[ShownKey, ...] = ()
        """The host keys that were shown before the pinned one, in the last login that succeeded."""
        self._lock = threading.Lock()
        self._starts: SimpleQueue[_Start] = SimpleQueue()
        threading.Thread(target=self._start_all, name="tunnel", daemon=True).start()

    def start(self, effect: StartLink) -> None:
        """Start one child in the background, in place of the running one. A failure becomes its LinkEnded."""
        self.stop(effect.purpose)
        with self._lock:
            self._wanted[effect.purpose] = effect.generation
        self._starts.put((effect, self._refused))

    def stop(self, purpose: Purpose) -> None:
        """Kill a child. The kernel closes its connection, so the far side learns of it as soon as with SIGTERM."""
        with self._lock:
            self._wanted.pop(purpose, None)
            child = self._children.pop(purpose, None)
        if child is not None:
            child.stop(grace_s=0)

    def stop_all(self) -> None:
        """Kill every child."""
        for purpose in Purpose:
            self.stop(purpose)

    def _start_all(self) -> None:
        while True:
            effect, refused = self._starts.get()
            fault = self._try_start(effect, refused)
            if fault is not None:
                self._emit(LinkEnded(effect.purpose, effect.generation, fault))

    def _try_start(self, effect: StartLink, refused: tuple[ShownKey, ...]) -> Fault | None:
        try:
            taken = self._local_port_fault() if effect.purpose is Purpose.API else None
            if taken is not None:
                return taken
            endpoint = self._endpoint()
            argv = ssh_argv.argv(
                effect.purpose,
                endpoint,
                self._forwards,
                self._policy,
                address=effect.address,
                any_port=effect.any_port,
                session=effect.session,
                hurry=effect.hurry,
                refused=refused,
                wrapper=wrapper_that_dies_with_parent(),
            )
            # `endpoint` may have taken a while: start the child only if it is still wanted. A `stop` that comes
            # now waits for the lock, and then kills the new child.
            with self._lock:
                if self._wanted.get(effect.purpose) == effect.generation:
                    self._children[effect.purpose] = self._spawn(effect, argv, endpoint, refused)
        except CommandNotFound:
            return _NO_SSH
        except (RejectedError, SettingsError, TransientError) as error:
            return Fault(_kind(error), str(error))
        except Exception as error:  # noqa: BLE001 - the top of a thread that must not end: it becomes the child's end
            return Fault(FaultKind.EXITED, f"ssh could not be started: {error!r}")
        return None

    def _local_port_fault(self) -> Fault | None:
        """Return a fault if another process holds the api child's local port. Raises: OSError without descriptors."""
        if self._local is None or not is_taken(*self._local):
            return None
        host, port = self._local
        holder = self._describe_holder(port) or f"port {port} is held by another process"
        text = f"{host}:{port} is taken: {holder}; stop that process or set another BETA9_GATEWAY_PORT"
        return Fault(FaultKind.LOCAL_PORT, text)

    def _spawn(
        self,
        effect: StartLink,
        argv: tuple[str, ...],
        endpoint: ssh_argv.Endpoint,
        refused: tuple[ShownKey, ...],
    ) -> Child:
        purpose, generation = effect.purpose, effect.generation
        lines: deque[str] = deque(maxlen=20)

        def on_line(line: str) -> None:
            lines.append(line)
            if ssh_stderr.logged_in(line):
                self._refused = refused
                self._emit(LinkLoggedIn(purpose, generation))
            elif (fault := ssh_stderr.complaint(line)) is not None:
                self._emit(LinkComplained(purpose, generation, fault))

        def on_exit(code: int) -> None:
            again, text = self._other_host_keys(lines, endpoint.fingerprints, refused)
            if again is not None:
                self._starts.put((effect, again))
                return
            jumps = [jump.host for jump in endpoint.jumps]
            fault = self._with_holder(ssh_stderr.fault_at_exit(lines, code, jumps), lines)
            if text:
                fault = Fault(FaultKind.HOST_KEY, text)
            self._emit(LinkEnded(purpose, generation, fault))

        # ssh starts the commands that lead through jump hosts with the user's shell, which may be one without logins.
        env = clean_environment({"SHELL": "/bin/sh"})
        return spawn(argv, name=f"ssh-{purpose.value}", on_line=on_line, on_exit=on_exit, env=env)

    def _other_host_keys(
        self, lines: Sequence[str], pins: Sequence[str], refused: tuple[ShownKey, ...]
    ) -> tuple[tuple[ShownKey, ...] | None, str]:
        """Return the refused keys for another attempt, if one makes sense, or why none does (else None and "")."""
        now_refused = host_key_pins.with_shown(refused, lines)
        if now_refused != refused:
            return now_refused, ""
        if not (refused and host_key_pins.has_no_other_type(lines)):
            return None, ""
        if refused == self._refused:  # what was found out at an earlier login may not hold any more
            self._refused = ()
            return (), ""
        wrong = host_key_pins.unproven(refused, lines)
        return None, _mismatch(pins, wrong) if wrong else ""

    def _with_holder(self, fault: Fault, lines: Sequence[str]) -> Fault:
        """Add the process that holds a local port: the next thing that a person would look for."""
        if fault.kind is not FaultKind.LOCAL_PORT:
            return fault
        ports = [int(port) for line in lines for port in _refused_ports(line)]
        holders = [text for port in ports if (text := self._describe_holder(port))]
        return Fault(fault.kind, f"{fault.message}; {holders[0]}") if holders else fault


def _mismatch(pins: Sequence[str], shown: Sequence[ShownKey]) -> str:
    seen = ", ".join(f"{key.fingerprint} ({key.kind})" for key in shown)
    return (
        f"BETA9_SSH_HOST_KEY_FINGERPRINT: {shown[0].host} showed {seen}, not {', '.join(sorted(pins))}; nothing was"
        " sent. If the server was reinstalled, run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on its console"
        " and set the fingerprint that it prints; otherwise find out which server answers there"
    )


def _refused_ports(line: str) -> list[str]:
    _, colon, last = line.partition("cannot listen to port: ")
    return [last.strip()] if colon and last.strip().isdigit() else []


def _kind(error: Exception) -> FaultKind:
    if isinstance(error, RejectedError):
        return FaultKind.SECRET
    # A setting that proves unusable only here belongs to the key.
    return FaultKind.KEY_FILE if isinstance(error, SettingsError) else FaultKind.UNREACHABLE


def probe_sockets(run_dir: Path, count: int) -> tuple[Path, ...]:
    """Return where the forwards for the end-to-end probe listen, one per candidate for the reverse address."""
    return tuple(run_dir / f"probe{n}.sock" for n in range(count))
