"""Check that workers' names resolve: the relay answers for them, and this host's resolver asks it."""

from __future__ import annotations

import socket
import struct

from check_relay import Installation
from findings import FAILED, OK, WARNING, Finding, judged

ADDRESS = "127.0.0.1:9053"
"""Where the relay answers by default."""
_TIMEOUT_S = 3.0
_NUMBER = 4711
_REFUSED = 5
_GUIDE = "see docs/gateway-setup.md, 'Names'"


def findings(relay: Installation) -> list[Finding]:
    domain = relay.option("--names")
    if not domain:
        seen = "the relay answers for no names (setup.sh --relay --names)"
        fix = "give the gateway's tailscale.user and tailscale.hostName, joined by a dot"
        return [Finding("names", WARNING, seen, fix)]
    server = _server(domain, relay.option("--names-address", ADDRESS))
    return [server] if server.verdict != OK else [server, _resolver(domain)]


def _server(domain: str, where: str) -> Finding:
    """Ask the relay for the domain itself, which it has whoever is connected."""
    host, _, port = where.rpartition(":")
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in domain.split("."))
    query = struct.pack("!6H", _NUMBER, 0, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)
    fix = "restart the relay, and see its log"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(_TIMEOUT_S)
            client.connect((host, int(port)))
            client.send(query)
            number, flags = struct.unpack_from("!HH", client.recv(512))
    except OSError as error:
        seen = f"the relay does not answer DNS at {where}: {error.strerror or 'timed out'}"
        return Finding("names", FAILED, seen, fix)
    code = flags & 0xF
    good = number == _NUMBER and code == 0
    seen = f"the relay answers for {domain} at {where}" + ("" if good else f" with code {code}")
    return judged(
        "names", good, seen, "run setup.sh --relay with this --names again" if code == _REFUSED else fix
    )


def _resolver(domain: str) -> Finding:
    """Ask this host's resolver for the domain: only the relay says that it exists and has no address."""
    name = "names-resolver"
    try:
        found = socket.getaddrinfo(domain, None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == getattr(socket, "EAI_NODATA", None):
            return Finding(name, OK, f"this host's resolver asks it for names in {domain}")
        seen = f"this host's resolver does not: {domain}: {error.strerror}"
        return Finding(name, FAILED, seen, f"let it ask the relay ({_GUIDE})")
    address = found[0][4][0]
    return Finding(
        name, FAILED, f"another server answers for {domain}, with {address}", f"let the relay ({_GUIDE})"
    )
