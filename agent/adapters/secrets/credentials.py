"""The agent's secrets: resolved when needed, known to the redactor before use, resolved again after a refusal."""

from __future__ import annotations

import threading
from pathlib import Path

from agent.adapters.secrets.resolver import Secrets
from agent.adapters.ssh import host_keys
from agent.adapters.ssh.private_key import PrivateKey, private_key_copy, user_certificate
from agent.core.text.redaction import Redactor
from agent.core.tunnel import ssh_argv
from agent.errors import SettingsError, TransientError
from agent.settings import SecretRef, Settings


class Credentials:
    """Resolves the secrets that the settings refer to. Thread-safe.

    `directory` is private (0700): for known_hosts, and for the key if there is no memory-backed storage.
    """

    def __init__(self, settings: Settings, directory: Path, redactor: Redactor) -> None:
        self.settings = settings
        self.directory = directory
        self.redactor = redactor
        self._secrets = Secrets(settings.metadata_endpoint, learned=redactor.add)
        self._resolved: dict[str, str] = {}
        self._key: PrivateKey | None = None
        self._key_made_from: tuple[str, str | None] = ("", None)
        self._lock = threading.Lock()

    def token(self, fresh: bool = False) -> str:
        """Return the machine token; with `fresh`, resolve it again.

        Raises: RejectedError, SettingsError, TransientError.
        """
        return self._text(self.settings.token, fresh)

    def k3s_token(self, fresh: bool = False) -> str | None:
        """Return the token that the gateway uses at this machine's k3s, or None if none is configured.

        A file is read again each time: the gateway keeps the token it was sent, so a changed one must be noticed here.
        Raises: RejectedError, SettingsError, TransientError.
        """
        ref = self.settings.k3s_token
        return None if ref is None else self._text(ref, fresh or ref.file is not None)

    def tailscale_auth(self) -> str:
        """Return the key for logging in to the tailnet, always resolved again: keys are used up and replaced.

        Raises: RejectedError, SettingsError, TransientError.
        """
        if self.settings.tailscale_auth is None:
            raise SettingsError("BETA9_TAILSCALE_AUTH is not set; give a key to log in to the tailnet with")
        return self._text(self.settings.tailscale_auth, fresh=True)

    def endpoint(self) -> ssh_argv.Endpoint:
        """Return the SSH server, with the private key and the host keys as they are now.

        Raises: RejectedError, SettingsError, TransientError.
        """
        settings = self.settings
        if settings.ssh_host is None or settings.ssh_key is None:
            raise SettingsError("BETA9_SSH_HOST and BETA9_SSH_KEY are needed for an SSH tunnel; set both")
        text = self._text(settings.ssh_key, fresh=True)
        made_from = (text, user_certificate(settings.ssh_key.file))
        self._make_directory()
        with self._lock:
            if self._key is None or made_from != self._key_made_from or not self._key.path.exists():
                previous = self._key
                # Overwritten in place, atomically: another child may be about to read it.
                self._key = private_key_copy(text, self.directory, settings.ssh_key.file)
                self._key_made_from = made_from
                if previous is not None and previous.path != self._key.path:
                    previous.remove()
            key_path = self._key.path
        known_hosts = host_keys.known_hosts_file(settings, self._secrets.resolve, self.directory)
        return ssh_argv.Endpoint(
            settings.ssh_host,
            settings.ssh_port,
            settings.ssh_user,
            str(key_path),
            str(known_hosts) if known_hosts is not None else None,
            tuple(pin for pin in (settings.ssh_host_key_fingerprint or "").split(",") if pin),
            tuple(
                ssh_argv.Server(jump.host, jump.port, jump.user or settings.ssh_user)
                for jump in settings.ssh_jump
            ),
        )

    def close(self) -> None:
        """Remove the private copy of the key."""
        with self._lock:
            if self._key is not None:
                self._key.remove()
                self._key = None

    def _make_directory(self) -> None:
        """Create the directory again if somebody has removed it under the running agent."""
        try:
            for each in (self.directory.parent, self.directory):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise TransientError(
                f"{self.directory} not written: {error.strerror}; free space there"
            ) from error

    def _text(self, ref: SecretRef, fresh: bool) -> str:
        with self._lock:
            resolved = self._resolved.get(ref.setting)
        if resolved is not None and not fresh:
            return resolved
        text = self._secrets.resolve(ref)
        with self._lock:
            self._resolved[ref.setting] = text
        return text
