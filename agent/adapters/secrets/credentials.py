"""Every secret of this agent: resolved when needed, told to the redactor first, resolved again when refused."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters.secrets.resolver import Secrets
from agent.adapters.ssh import host_keys
from agent.adapters.ssh.private_key import PrivateKey, private_key_copy, user_certificate
from agent.core.text.redaction import Redactor
from agent.core.tunnel import ssh_argv
from agent.errors import SettingsError, TransientError
from agent.settings import SecretRef, Settings


@dataclass
class Credentials:
    """Resolves what the settings only refer to. Safe from several threads."""

    settings: Settings
    directory: Path
    """Private (0700); for known_hosts, and for the key where there is no memory-backed storage."""
    redactor: Redactor
    _known: dict[str, str] = field(default_factory=dict)
    _key: PrivateKey | None = None
    _key_made_from: tuple[str, str | None] = ("", None)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._secrets = Secrets(self.settings.metadata_endpoint, learned=self.redactor.add)

    def token(self, fresh: bool = False) -> str:
        """The machine token. Raises: RejectedError, SettingsError, TransientError."""
        return self._text(self.settings.token, fresh)

    def k3s_token(self, fresh: bool = False) -> str | None:
        """The token that the gateway uses at this machine's k3s, None where none is configured.

        A file is read each time: the gateway keeps the token that it was told, so a new one must be noticed here.
        Raises: RejectedError, SettingsError, TransientError.
        """
        ref = self.settings.k3s_token
        return None if ref is None else self._text(ref, fresh or ref.file is not None)

    def tailscale_auth(self) -> str:
        """The key to log in to the tailnet with, resolved anew: keys are renewed and used up.

        Raises: RejectedError, SettingsError, TransientError.
        """
        if self.settings.tailscale_auth is None:
            raise SettingsError("BETA9_TAILSCALE_AUTH is not set; give a key to log in to the tailnet with")
        return self._text(self.settings.tailscale_auth, fresh=True)

    def endpoint(self) -> ssh_argv.Endpoint:
        """The SSH server, with the key and host keys as they are now.

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
                before = self._key
                # Written over the one before at once: another child may be about to read it.
                self._key = private_key_copy(text, self.directory, settings.ssh_key.file)
                self._key_made_from = made_from
                if before is not None and before.path != self._key.path:
                    before.remove()
            key_path = self._key.path
        known_hosts = host_keys.known_hosts_file(settings, self._secrets.resolve, self.directory)
        return ssh_argv.Endpoint(
            settings.ssh_host, settings.ssh_port, settings.ssh_user, str(key_path), str(known_hosts)
        )

    def close(self) -> None:
        """Remove the private copies."""
        with self._lock:
            self._drop_key()

    def _make_directory(self) -> None:
        """Again, where somebody has removed the state directory from under a running agent."""
        try:
            for each in (self.directory.parent, self.directory):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise TransientError(
                f"{self.directory} not written: {error.strerror}; free space there"
            ) from error

    def _drop_key(self) -> None:
        if self._key is not None:
            self._key.remove()
            self._key = None

    def _text(self, ref: SecretRef, fresh: bool) -> str:
        with self._lock:
            known = self._known.get(ref.setting)
        if known is not None and not fresh:
            return known
        text = self._secrets.resolve(ref)
        with self._lock:
            self._known[ref.setting] = text
        return text
