"""tailscaled on this machine, by its local API: how it is, and having it log in.

The local API is HTTP over tailscaled's unix socket, what its own command-line client uses. `status`, `prefs`, `start`
and `login-interactive` are the same in 1.72 and 1.104 (read in the source of both). A login's key goes through the
socket: it is on no command line and in no file of ours.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.tailnet.status import read_status
from agent.errors import TransientError

HOST = "local-tailscaled.sock"
"""The Host that tailscaled insists on, against web pages that ask local services."""
REPLY_LIMIT_BYTES = 16 << 20
"""A status holds some 1 kB for each peer."""


class TailscaleDaemon:
    """Asks tailscaled. Safe from several threads: each request has a connection of its own."""

    def __init__(self, socket_path: Path, gateway_host: str) -> None:
        self.socket_path = socket_path
        self._gateway_host = gateway_host

    def look(self, timeout_s: float, *, with_peers: bool = True) -> TailnetFacts:
        """How it is now, with the gateway's side if `with_peers`. Never raises for what tailscaled does."""
        try:
            status = self._ask("GET", f"status?peers={str(with_peers).lower()}", timeout_s)
            return read_status(status, self._gateway_host, time.time())
        except (TransientError, ValueError) as error:
            return TailnetFacts(DaemonState.ABSENT, str(error))

    def join(self, url: str | None, key: str, timeout_s: float) -> None:
        """Have it log in with `key` at the control server `url` (None: the one it has); all else stays as it is set.

        Whether the control server takes the key shows in `look`. Raises: TransientError.
        """
        prefs = self._ask("GET", "prefs", timeout_s)
        prefs |= {"WantRunning": True, "LoggedOut": False, **({"ControlURL": url} if url else {})}
        if not self._ask("GET", "status?peers=false", timeout_s).get("HaveNodeKey"):
            # A new daemon's preferences are a desktop's; 'tailscale up' on Linux takes no routes of others, either.
            prefs["RouteAll"] = False
        self._ask("POST", "start", timeout_s, {"AuthKey": key, "UpdatePrefs": prefs})
        self._ask("POST", "login-interactive", timeout_s)

    def control_url(self, timeout_s: float) -> str:
        """The control server that it is set to. Raises: TransientError."""
        return str(self._ask("GET", "prefs", timeout_s).get("ControlURL") or "")

    def _ask(self, method: str, path: str, timeout_s: float, body: Any = None) -> dict[str, Any]:
        """One request; {} where the answer has no body. Raises: TransientError."""
        from http.client import HTTPException

        connection = _connection(self.socket_path, timeout_s)
        try:
            connection.request(
                method, f"/localapi/v0/{path}", None if body is None else json.dumps(body), {"Host": HOST}
            )
            with connection.getresponse() as reply:
                text = reply.read(REPLY_LIMIT_BYTES)
                code = reply.status
            if code >= 400:
                raise TransientError(f"tailscaled answers {code} to {path.partition('?')[0]}: {_line(text)}")
            value = json.loads(text) if text else {}
        except TimeoutError as error:
            raise TransientError(f"no answer at {self.socket_path} within {timeout_s:g} s") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TransientError(f"{self.socket_path}: {reason}") from error
        finally:
            connection.close()
        if not isinstance(value, dict):
            raise TransientError(f"{self.socket_path}: what answers there is no tailscaled")
        return value


def _line(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())[:200]


def _connection(path: Path, timeout_s: float) -> Any:
    from http.client import HTTPConnection

    class OverSocket(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout_s)
            self.sock.connect(str(path))

    return OverSocket(HOST, timeout=timeout_s)
