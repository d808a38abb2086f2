"""Make the hairpin, check it by connecting through it, and make it anew when that fails.

What it consists of is the core's to say (core/hairpin/layout.py).
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.adapters.hairpin import commands
from agent.adapters.hairpin.namespace import Namespace
from agent.adapters.process.run import CommandFailed, CommandNotFound, run
from agent.core.effects import CheckHairpin
from agent.core.events import HairpinChecked
from agent.core.hairpin.clashes import Route, containers_unreachable, in_the_way, range_taken, routes
from agent.core.hairpin.layout import INTERFACE, TABLE, Layout
from agent.core.hairpin.model import HairpinFault, HairpinFaultKind
from agent.core.tunnel.ssh_argv import K3S_PORT, permit_remote_open
from agent.errors import AgentError

_LOCK = f"\0{INTERFACE}"
"""A socket's name, of which there is one in each network namespace; it is free again when its holder ends."""
_ROUTES = (Path("/proc/net/route"), Path("/proc/net/fib_trie"))
"""The kernel's own list of routes and addresses; it lacks the tables that rules select."""
_UNABLE = re.compile(
    r"operation not permitted|permission denied|not supported|unknown device type|read-only file system|"
    r"no such file or directory|not found on path",
    re.IGNORECASE,
)
"""What commands print where the kernel or the container does not allow or have what they need."""
_HOW = (
    "the agent needs CAP_NET_ADMIN and CAP_SYS_ADMIN (a privileged container), the packages iproute2 and nftables, and "
    "a kernel with veth, network namespaces and nf_tables"
)


class HairpinKeeper:
    """The hairpin of this machine. `check` makes and repairs it, `close` removes it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._namespace: Namespace | None = None
        self._lets_in: bool | None = None
        """What the namespace's rules do just now; None: there are none yet."""
        self._lock_socket: socket.socket | None = None
        self._routes: tuple[Route, ...] = ()
        self._routes_seen = ""
        """What the kernel's own files showed when these were read."""
        self._busy = threading.Lock()

    def check(self, effect: CheckHairpin) -> HairpinChecked:
        """Make sure that connections come through. Whatever prevents that becomes the result's fault."""
        with self._busy:
            is_known = self._namespace is not None and effect.lets_in is self._lets_in
            if is_known and not effect.inspects and self._try_out(effect.timeout_s) is None:
                return self._result(effect, None, None, inspected=False)
            fault = _fault_of(lambda: self._inspect(effect))
            return self._result(effect, fault, containers_unreachable(self._routes), inspected=True)

    def _inspect(self, effect: CheckHairpin) -> HairpinFault | None:
        self._take_lock()
        _need_permit_remote_open(self._layout.inner)
        # A command costs milliseconds, and routes seldom change.
        seen = "".join(path.read_text(encoding="ascii") for path in _ROUTES if path.exists())
        if seen != self._routes_seen or self._namespace is None:
            self._routes = routes(commands.ip("-4", "-json", "route", "show", "table", "all"))
            self._routes_seen = seen
        return self._repair(self._routes, lets_in=effect.lets_in, timeout_s=effect.timeout_s)

    def _result(
        self, effect: CheckHairpin, fault: HairpinFault | None, containers: str | None, *, inspected: bool
    ) -> HairpinChecked:
        return HairpinChecked(
            effect.lets_in,
            fault,
            containers=containers,
            k3s_missed=self._miss_k3s(effect.timeout_s) if effect.tries_k3s and fault is None else None,
            uncut=fault is None and not effect.lets_in and self._cut(),
            inspected=inspected,
        )

    def _repair(self, found: tuple[Route, ...], *, lets_in: bool, timeout_s: float) -> HairpinFault | None:
        other = in_the_way(found, self._layout)
        if other is not None:
            self._remove_pair()
            return HairpinFault(HairpinFaultKind.TAKEN, range_taken(other, self._layout))
        is_new = self._namespace is None
        if is_new:
            commands.nft(self._layout.outer_rules())
        if not commands.accept() and not is_new:
            # Whoever removed these may have removed all rules.
            commands.nft(self._layout.outer_rules())
        self._reject_without_pair(found)
        reason: str | None = "there is none"
        if not is_new:
            self._set_rules(lets_in)
            reason = self._try_out(timeout_s)
        if reason is not None:
            self._make()
            self._set_rules(lets_in)
            reason = self._try_out(timeout_s)
        return None if reason is None else HairpinFault(HairpinFaultKind.BROKEN, self._blocked(reason))

    def _blocked(self, reason: str) -> str:
        layout = self._layout
        return (
            f"connections by way of {layout.inner} do not come back to {layout.outer} ({reason}): this machine's "
            f"firewall must let in what comes from the interface {INTERFACE} ('nft list ruleset' shows what drops it)"
        )

    def _take_lock(self) -> None:
        """Make sure that no other agent in this network namespace has a hairpin. Raises: _OtherAgent."""
        if self._lock_socket is not None:
            return
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(_LOCK)
        except OSError as error:
            lock.close()
            if error.errno == errno.EADDRINUSE:
                raise _OtherAgentError from error
            raise
        self._lock_socket = lock

    def _reject_without_pair(self, found: tuple[Route, ...]) -> None:
        if not any(f"unreachable {self._layout.network}" in route.text for route in found):
            commands.ip("route", "add", *self._layout.rejecting_route.split())

    def _make(self) -> None:
        """Make namespace and veth pair, in place of whatever there is. Raises: CommandFailed, OSError."""
        self._remove_pair()
        self._namespace = Namespace()
        try:
            commands.ip_batch(self._layout.outer_commands(self._namespace.path))
            commands.ip_batch(self._layout.inner_commands(), self._namespace.path)
        except AgentError:
            self._remove_pair()
            raise

    def _remove_pair(self) -> None:
        if self._namespace is not None:
            self._namespace.close()
        self._namespace, self._lets_in = None, None
        # The kernel takes a moment to remove a namespace; the interface may also be a killed agent's.
        if any(name == INTERFACE for _, name in socket.if_nameindex()):
            with contextlib.suppress(CommandFailed):  # gone meanwhile
                commands.ip("link", "delete", INTERFACE)

    def _set_rules(self, lets_in: bool) -> None:
        assert self._namespace is not None  # noqa: S101 - made just before
        if lets_in is not self._lets_in:
            commands.nft(self._layout.inner_rules(lets_in=lets_in), self._namespace.path)
            self._lets_in = lets_in

    def _try_out(self, timeout_s: float) -> str | None:
        """Connect to a port of this machine through the hairpin; return why that failed, or None."""
        try:
            with socket.create_server((self._layout.outer, 0)) as listener:
                listener.settimeout(timeout_s)
                port = listener.getsockname()[1]
                with socket.create_connection((self._layout.inner, port), timeout_s):
                    connection, peer = listener.accept()
                    connection.close()
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except OSError as error:
            return error.strerror or str(error)
        return None if peer[0] == self._layout.inner else f"it came from {peer[0]}"

    def _miss_k3s(self, timeout_s: float) -> str | None:
        layout = self._layout
        try:
            socket.create_connection((layout.inner, K3S_PORT), timeout_s).close()
        except OSError as error:
            reason = (
                f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else error.strerror
            )
            return (
                f"this machine's k3s does not answer at {layout.outer}:{layout.k3s_port} ({reason}): it listens on "
                f"loopback only (bind-address), or a firewall closes its port to the interface {INTERFACE}, which "
                "the firewall that this version's installer writes lets in"
            )
        return None

    def _cut(self) -> bool:
        """Cut the connections to a k3s that does not answer; return whether some are left."""
        try:
            return not commands.cut(self._layout.inner, K3S_PORT)
        except AgentError:
            return True

    def close(self) -> None:
        """Remove everything that was made."""
        with self._busy:
            if self._lock_socket is None:
                return
            for remove in self._removals():
                with contextlib.suppress(
                    AgentError, OSError
                ):  # it may be gone; the next agent replaces the rest
                    remove()
            self._lock_socket.close()
            self._lock_socket = None

    def _removals(self) -> Iterator[Callable[[], object]]:
        yield self._remove_pair
        yield commands.accept_no_longer
        yield lambda: commands.ip("route", "delete", *self._layout.rejecting_route.split())
        yield lambda: commands.nft(f"delete table ip {TABLE}\n")


class _OtherAgentError(Exception):
    """Another agent has the hairpin."""


class _OldSshError(Exception):
    """ssh cannot limit what a reverse forward connects to."""


def _fault_of(act: Callable[[], HairpinFault | None]) -> HairpinFault | None:
    """Return what `act` returns, or the fault that its error stands for."""
    try:
        return act()
    except _OtherAgentError:
        text = "another agent on this machine has the way to its ports; stop one of the two"
        return HairpinFault(HairpinFaultKind.TAKEN, text)
    except _OldSshError as error:
        return HairpinFault(HairpinFaultKind.UNABLE, str(error))
    except (AgentError, OSError, ValueError) as error:
        is_unable = isinstance(error, (CommandNotFound, PermissionError)) or _UNABLE.search(str(error))
        if is_unable:
            return HairpinFault(
                HairpinFaultKind.UNABLE, f"no way to this machine's ports can be made ({error}): {_HOW}"
            )
        return HairpinFault(
            HairpinFaultKind.BROKEN, f"the way to this machine's ports could not be made: {error}"
        )


_knows_option: list[bool] = []


def _need_permit_remote_open(address: str) -> None:
    """Try whether ssh knows the option; without it, the gateway's side could connect to anything from here."""
    if not _knows_option:
        argv = ["ssh", "-F", "none", "-G", "-o", permit_remote_open(address), "localhost"]
        _knows_option.append(run(argv, commands.COMMAND_S, ok_codes=(0, 255)).code == 0)
    if not _knows_option[0]:
        raise _OldSshError(
            "this machine's ssh does not know the option PermitRemoteOpen; update openssh-client to 8.5 or later"
        )
