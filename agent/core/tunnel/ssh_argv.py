"""The command line of each OpenSSH child: its options, and where its forwards point.

Options and their reasons: ARCHITECTURE.md, "The tunnel". `-F none` and the explicit options make the child's
behaviour independent of whatever ssh_config the machine has.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.policy import Policy
from agent.core.tunnel import host_key_pins
from agent.core.tunnel.host_key_pins import ShownKey, lookup_name
from agent.core.tunnel.model import Purpose

K3S_PORT = 6443
"""The port that the gateway dials on every machine (its contract)."""
SOCKS_PORT = 1080
"""Where the relay on the gateway's host asks a machine for any port."""


@dataclass(frozen=True)
class Server:
    """One sshd on the way, and the user to log in as."""

    host: str
    port: int
    user: str

    @property
    def known_as(self) -> str:
        """The name under which ssh looks for its host key."""
        return lookup_name(self.host, self.port).lower()


@dataclass(frozen=True)
class Endpoint:
    """The server, the file with our key, and what tells its host keys. Paths are plain text."""

    host: str
    port: int
    user: str
    key_path: str
    known_hosts_path: str | None = None
    fingerprints: tuple[str, ...] = ()
    """Pinned host keys, where there are no known_hosts lines."""
    jumps: tuple[Server, ...] = ()
    """The servers to go through, the first one dialled from here. All know the same key."""

    @property
    def way(self) -> tuple[Server, ...]:
        """All servers to log in at, in order."""
        return (*self.jumps, Server(self.host, self.port, self.user))


@dataclass(frozen=True)
class Forwards:
    """What the children forward. `-L` specifications are in ssh's own form, `bind:port:host:port`."""

    gateway: str
    """The forward to the gateway's HTTP port."""
    data: tuple[str, ...] = ()
    probe_sockets: tuple[str, ...] = ()
    """One unix socket per reverse address candidate, for the end-to-end probe; same order."""
    addresses: tuple[str, ...] = ()
    kubernetes: str = f"127.0.0.1:{K3S_PORT}"
    """Where the reverse forward points on this machine, in the plain form."""
    hairpin: str = ""
    """The only address to which the reverse forward for any port may lead."""


def argv(
    purpose: Purpose,
    endpoint: Endpoint,
    forwards: Forwards,
    policy: Policy,
    *,
    address: str | None = None,
    any_port: bool = False,
    session: bool = True,
    hurry: bool = False,
    refused: Sequence[ShownKey] = (),
    wrapper: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the command line of one child.

    Args:
        address: where the reverse forward listens on the gateway's side.
        any_port: the reverse forward leads to any port of this machine, by way of the hairpin.
        session: open an (idle) sftp channel, else `-N`.
        hurry: give each address of the server's name only a moment.
        refused: host keys that the servers have shown and that are not pinned; another type is asked for.
        wrapper: command in front of the ssh processes that ssh itself starts for the jump hosts.
    """
    channel = ("-T", "-s") if session else ("-N", "-T")
    last = ("--", endpoint.host, "sftp") if session else ("--", endpoint.host)
    login = _login(endpoint, len(endpoint.jumps), _options(policy, hurry), refused, wrapper)
    specs = _any_port(forwards, address) if any_port else _forwards(purpose, forwards, address)
    return ("ssh", "-F", "none", *channel, *login, *specs, *last)


def _login(
    endpoint: Endpoint,
    place: int,
    options: Mapping[str, str],
    refused: Sequence[ShownKey],
    wrapper: Sequence[str],
) -> list[str]:
    """Return the words for the login at one server on the way; what leads there is an ssh of its own (ProxyCommand).

    `ssh -J` would start these, too, but with other options: with the machine's own configuration, and prompts.
    """
    server = endpoint.way[place]
    own = {**options, **_host_keys(endpoint, server, refused)}
    # The time for connecting begins before the jump hosts are dialled.
    own["ConnectTimeout"] = str(int(own["ConnectTimeout"]) * (place + 1))
    if place < len(endpoint.jumps):
        own["LogLevel"] = "INFO"
    if place > 0:
        before = _login(endpoint, place - 1, options, refused, wrapper)
        target = f"[{server.host}]:{server.port}"
        command = [*wrapper, "ssh", "-F", "none", *before, "-W", target, "--", endpoint.way[place - 1].host]
        own["ProxyCommand"] = shlex.join(command).replace("%", "%%")
    words = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    return ["-p", str(server.port), "-l", server.user, "-i", endpoint.key_path, *words]


def _options(policy: Policy, hurry: bool) -> Mapping[str, str]:
    connect_timeout_s = policy.ssh_hurried_connect_timeout_s if hurry else policy.ssh_connect_timeout_s
    return {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ExitOnForwardFailure": "yes",
        "ConnectTimeout": str(max(1, round(connect_timeout_s))),
        "ServerAliveInterval": str(max(1, round(policy.ssh_alive_interval_s))),
        "ServerAliveCountMax": str(max(1, round(policy.ssh_alive_count))),
        # The server-alive messages are authenticated; TCP's own are not, and take hours.
        "TCPKeepAlive": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "PermitLocalCommand": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "StreamLocalBindUnlink": "yes",
        # VERBOSE says when the login succeeded; the rest of it is dropped.
        "LogLevel": "VERBOSE",
    }


def _host_keys(endpoint: Endpoint, server: Server, refused: Sequence[ShownKey]) -> Mapping[str, str]:
    if endpoint.known_hosts_path is not None:
        return {"UserKnownHostsFile": _quoted(endpoint.known_hosts_path)}
    return host_key_pins.options(
        endpoint.fingerprints, [key for key in refused if key.host == server.known_as]
    )


def _any_port(forwards: Forwards, address: str | None) -> Sequence[str]:
    """Without a target, ssh speaks SOCKS to whoever connects, and would connect to anything."""
    return ["-o", permit_remote_open(forwards.hairpin), "-R", f"{address}:{SOCKS_PORT}"]


def permit_remote_open(address: str) -> str:
    """Return the option that limits what the SOCKS of a reverse forward may connect to (since OpenSSH 8.5).

    The place is named twice: OpenSSH 8.8 to 9.1 ignore the first, and permit everything if there is no other.
    """
    return f"PermitRemoteOpen={address}:* {address}:*"


def _forwards(purpose: Purpose, forwards: Forwards, address: str | None) -> Sequence[str]:
    if purpose is Purpose.REVERSE:
        return ["-R", f"{address}:{K3S_PORT}:{forwards.kubernetes}"]
    if purpose is Purpose.DATA:
        return [word for spec in forwards.data for word in ("-L", spec)]
    probes = zip(forwards.probe_sockets, forwards.addresses, strict=True)
    specs = [forwards.gateway, *(f"{socket}:{target}:{K3S_PORT}" for socket, target in probes)]
    return [word for spec in specs for word in ("-L", spec)]


def _quoted(path: str) -> str:
    """Quote a path for ssh's option parser, which would expand `%`."""
    return '"' + path.replace("%", "%%") + '"'
