"""What all checks share: the settings that could be read, the running agent's status, and the doctor's own tunnel."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, TypeVar

from agent.adapters.local_api.status_client import ask
from agent.adapters.secrets.credentials import Credentials
from agent.core.text.redaction import Redactor
from agent.doctor.own_tunnel import OwnTunnel
from agent.runtime.identity import known_machine_id
from agent.settings import Connection, Settings
from agent.settings.fields import BY_NAME

STATUS_TIMEOUT_S = 4.0
DEFAULT_STATUS_ADDR = BY_NAME["status_addr"].default

T = TypeVar("T")


class Case:
    """One run of the doctor. `close` removes everything that was created for it."""

    def __init__(self, settings: Settings, setting_errors: tuple[str, ...], outbound: str) -> None:
        """Create the private directory.

        Args:
            settings: as `examine` returned them, with defaults in place of wrong values.
            setting_errors: the errors in the settings.
            outbound: host:port on the internet that must be reachable.
        """
        self.settings = settings
        self.setting_errors = setting_errors
        self.outbound = outbound
        self.redactor = Redactor()
        # Mode 0700, by mkdtemp; and short, because paths of unix sockets are limited to 107 characters. The running
        # agent's directory cannot be used, because its copies of credentials must not change.
        self.directory = Path(tempfile.mkdtemp(prefix="b9doctor-"))
        self.credentials = Credentials(settings, self.directory, self.redactor)
        self.tunnel = OwnTunnel(settings, self.directory)
        self._found: dict[str, object] = {}
        self._status: dict[str, Any] | None = None
        self._status_fetched = False
        self._status_lock = threading.Lock()

    @property
    def is_ssh(self) -> bool:
        """Whether the gateway is reached through an SSH tunnel."""
        return self.settings.connection is Connection.SSH

    def record(self, check: str, found: object) -> None:
        """Keep what a check found for later checks."""
        self._found[check] = found

    def found(self, check: str, kind: type[T]) -> T | None:
        """Return what a finished check found, or None if it found nothing of that type."""
        value = self._found.get(check)
        return value if isinstance(value, kind) else None

    def need(self, check: str, kind: type[T]) -> T:
        """Return what a check found that this one needs. Raises: LookupError if there is nothing."""
        value = self.found(check, kind)
        if value is None:
            raise LookupError(f"check '{check}' recorded no {kind.__name__}")
        return value

    def agent_status(self) -> dict[str, Any] | None:
        """Return the running agent's /status, or None if no agent answers. Fetched once."""
        with self._status_lock:
            if not self._status_fetched:
                reply = ask(str(self.settings.status_addr), "/status", STATUS_TIMEOUT_S)
                is_status = reply.status == 200 and isinstance(reply.body, dict) and "state" in reply.body
                self._status, self._status_fetched = reply.body if is_status else None, True
        return self._status

    def machine_id(self) -> str | None:
        """Return the id that the agent uses or would use, or None if it would have to generate one."""
        status = self.agent_status()
        return str(status["machine_id"]) if status is not None else known_machine_id(self.settings)

    @property
    def status_command(self) -> str:
        """The command that shows the status of this very agent."""
        address = str(self.settings.status_addr)
        return "beta9-worker status" + ("" if address == DEFAULT_STATUS_ADDR else f" --address {address}")

    @property
    def authorize_command(self) -> str:
        """The command that prints this machine's line for the gateway's host, with the settings in use."""
        machine_id = self.machine_id()
        scope = f"--machine-id {machine_id}" if machine_id else "--pool-key"
        forwards = "".join(f" --forward {shlex.quote(str(each))}" for each in self.settings.ssh_forwards)
        target = shlex.quote(str(self.settings.ssh_target))
        return f"beta9-worker authorize {scope} --target {target}{forwards} PUBLIC_KEY_FILE"

    def close(self) -> None:
        """Stop the doctor's ssh processes, and remove all private copies."""
        self.tunnel.close()
        self.credentials.close()
        shutil.rmtree(self.directory, ignore_errors=True)
