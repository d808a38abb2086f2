"""What all checks share: the settings as far as they could be read, the running agent's word, our own tunnel."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.local_api.status_client import ask
from agent.adapters.secrets.credentials import Credentials
from agent.core.text.redaction import Redactor
from agent.doctor.own_tunnel import OwnTunnel
from agent.runtime.identity import known_machine_id
from agent.settings import Connection, Settings

STATUS_TIMEOUT_S = 4.0


@dataclass
class Case:
    """One visit of the doctor. Everything made for it is gone after `close`."""

    settings: Settings
    problems: tuple[str, ...]
    outbound: str
    """host:port on the internet that must be reachable."""
    redactor: Redactor = field(default_factory=Redactor)
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="b9doctor-")))
    """Private (0700, by mkdtemp); a short path, since unix sockets in it may have 107 characters."""
    _found: dict[str, Any] = field(default_factory=dict)
    _running: dict[str, Any] | None = None
    _asked: bool = False
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # A directory of our own: the copies of a running agent, kept by directory, stay as they are.
        self.credentials = Credentials(self.settings, self.directory, self.redactor)
        self.tunnel = OwnTunnel(self.settings, self.directory)

    @property
    def is_ssh(self) -> bool:
        """Whether the gateway is reached by a tunnel."""
        return self.settings.connection is Connection.SSH

    def tell(self, check: str, found: Any) -> None:
        """Keep what a check found for those that need it."""
        self._found[check] = found

    def found(self, check: str) -> Any:
        """What a check found; only for checks that need that one."""
        return self._found.get(check)

    def running(self) -> dict[str, Any] | None:
        """What the agent that runs here says of itself, None where none answers."""
        with self._asking:
            if not self._asked:
                reply = ask(str(self.settings.status_addr), "/status", STATUS_TIMEOUT_S)
                is_status = reply.status == 200 and isinstance(reply.body, dict) and "state" in reply.body
                self._running, self._asked = reply.body if is_status else None, True
        return self._running

    def machine_id(self) -> str | None:
        """As the agent would take it, but nothing is made: None where it would make one."""
        running = self.running()
        return str(running["machine_id"]) if running is not None else known_machine_id(self.settings)

    def close(self) -> None:
        """End our own ssh children, and remove every private copy."""
        self.tunnel.close()
        self.credentials.close()
        shutil.rmtree(self.directory, ignore_errors=True)
