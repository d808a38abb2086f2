"""A client of tailscaled's local API: query its state, and log this machine in.

The local API is HTTP over tailscaled's unix socket, which its own command-line client uses, too. `status`, `prefs`,
`start` and `login-interactive` are the same in 1.72 and 1.104 (read in the source of both). The auth key is sent over
the socket, so it appears on no command line and in no file.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from agent.adapters.bounded_http import UnixConnection, exchange
from agent.core.host.facts import DaemonState, TailnetFacts
from agent.core.tailnet.status import read_status
from agent.errors import TransientError

HOST = "local-tailscaled.sock"
"""The Host header that tailscaled requires, as a defence against web pages that call local services."""
REPLY_LIMIT_BYTES = 16 << 20
"""A status takes about 1 kB for each peer."""


class TailscaleDaemon:
    """Talks to tailscaled. Thread-safe: each request opens its own connection."""

    def __init__(self, socket_path: Path, gateway_host: str) -> None:
        self.socket_path = socket_path
        self._gateway_host = gateway_host

    def look(self, timeout_s: float, *, with_peers: bool = True) -> TailnetFacts:
        """Return tailscaled's state, with the gateway's peer if `with_peers`. Never raises for what tailscaled does."""
        try:
            status = self._call("GET", f"status?peers={str(with_peers).lower()}", timeout_s)
            return read_status(status, self._gateway_host, time.time())
        except (TransientError, ValueError) as error:
            return TailnetFacts(DaemonState.ABSENT, str(error))

    def join(self, url: str | None, key: str, timeout_s: float) -> None:
        """Log in with `key` at the control server `url` (None: the one already set); keep all other preferences.

        `look` shows whether the control server accepts the key. Raises: TransientError.
        """
        prefs = self._call("GET", "prefs", timeout_s)
        prefs |= {"WantRunning": True, "LoggedOut": False, **({"ControlURL": url} if url else {})}
        if not self._call("GET", "status?peers=false", timeout_s).get("HaveNodeKey"):
            # A new daemon has a desktop's preferences; like 'tailscale up' on Linux, do not accept peers' routes.
            prefs["RouteAll"] = False
        self._call("POST", "start", timeout_s, {"AuthKey": key, "UpdatePrefs": prefs})
        self._call("POST", "login-interactive", timeout_s)

    def control_url(self, timeout_s: float) -> str:
        """Return the URL of the configured control server. Raises: TransientError."""
        return str(self._call("GET", "prefs", timeout_s).get("ControlURL") or "")

    def _call(
        self, method: str, path: str, timeout_s: float, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make one request and return the reply's JSON object; {} if it has no body. Raises: TransientError."""
        from http.client import HTTPException

        connection = UnixConnection(self.socket_path, HOST)
        try:
            status, text = exchange(
                connection,
                method,
                f"/localapi/v0/{path}",
                body=None if body is None else json.dumps(body),
                headers={"Host": HOST},
                deadline_s=time.monotonic() + timeout_s,
                limit_bytes=REPLY_LIMIT_BYTES,
            )
            if status >= 400:
                raise TransientError(
                    f"tailscaled answers {status} to {path.partition('?')[0]}: {_one_line(text)}"
                )
            value = json.loads(text) if text else {}
        except TimeoutError as error:
            raise TransientError(f"no answer at {self.socket_path} within {timeout_s:g} s") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TransientError(f"{self.socket_path}: {reason}") from error
        finally:
            connection.close()
        if not isinstance(value, dict):
            raise TransientError(f"{self.socket_path}: the program that answers there is not tailscaled")
        return value


def _one_line(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())[:200]
