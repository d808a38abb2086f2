"""A kubeconfig file: where a Kubernetes API answers and with what to log in. Only what k3s and kubeadm write.

Logins by a helper program (`exec`, `auth-provider`) are refused: this agent runs nobody else's programs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.errors import SettingsError

K3S_PATH = Path("/etc/rancher/k3s/k3s.yaml")
"""Where k3s writes its administrator's own."""
_AUTHORITY, _CERTIFICATE, _KEY = "certificate-authority", "client-certificate", "client-key"


@dataclass(frozen=True)
class Access:
    """How one API server is reached."""

    host: str
    port: int
    authority_pem: str | None = None
    """Who signed its certificate; None: whoever this machine trusts."""
    is_verified: bool = True
    token: str | None = field(default=None, repr=False)
    certificate_pem: str | None = field(default=None, repr=False)
    key_pem: str | None = field(default=None, repr=False)
    files: tuple[Path, ...] = ()
    """Further files that hold parts of it; kubeadm's certificates are renewed in theirs."""

    @property
    def cluster(self) -> tuple[str, int, str | None]:
        """What tells one cluster from another. A renewed client certificate is the same cluster's."""
        return self.host, self.port, self.authority_pem


Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file, what changes with it: inode, time of the last change, size; None for one that is not there."""


def find(configured: Path | None) -> Path | None:
    """The kubeconfig to use just now: the one that is configured, else k3s's own where it is there."""
    if configured is not None:
        return configured
    return K3S_PATH if is_there(K3S_PATH) else None


def is_there(path: Path) -> bool:
    """Whether the file is there. One that may not be looked at counts: reading it says what is wrong."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def stamp(path: Path, access: Access | None) -> Stamp:
    """How the file is now, and those that it named when it was read."""
    return tuple(_stamp(each) for each in (path, *(access.files if access else ())))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def read(path: Path) -> Access:
    """What the file's current context says. Raises: SettingsError naming the file and what is wrong with it."""
    import yaml

    try:
        return _access(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent)
    except OSError as error:
        raise SettingsError(f"the kubeconfig {path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # What the parser says may quote the file, which holds a key.
        raise SettingsError(f"the kubeconfig {path} is no YAML ({type(error).__name__})") from None
    except (LookupError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise SettingsError(f"the kubeconfig {path} is not one that can be used: {_named(error)}") from error


def _named(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return str(error) if isinstance(error, ValueError) else f"it has another shape ({type(error).__name__})"


def _access(config: Mapping[str, Any], directory: Path) -> Access:
    context = _entry(config, "contexts", "context", config["current-context"])
    cluster = _entry(config, "clusters", "cluster", context["cluster"])
    user = _entry(config, "users", "user", context["user"])
    for program in ("exec", "auth-provider"):
        if program in user:
            raise ValueError(f"it logs in by {program}; give it a token or a client certificate")
    address = urlsplit(str(cluster["server"]))
    if address.scheme != "https" or not address.hostname:
        raise ValueError(f"its server is {cluster['server']!r}, not an https:// address")
    token = user.get("token")
    files = [
        directory / entry[name]
        for entry, name in ((cluster, _AUTHORITY), (user, _CERTIFICATE), (user, _KEY))
        if name in entry and f"{name}-data" not in entry
    ]
    if token is None and "tokenFile" in user:
        files.append(directory / user["tokenFile"])
        token = files[-1].read_text(encoding="utf-8").strip()
    return Access(
        host=address.hostname,
        port=address.port or 443,
        authority_pem=_pem(cluster, _AUTHORITY, directory),
        is_verified=not cluster.get("insecure-skip-tls-verify", False),
        token=token,
        certificate_pem=_pem(user, _CERTIFICATE, directory),
        key_pem=_pem(user, _KEY, directory),
        files=tuple(files),
    )


def _entry(config: Mapping[str, Any], many: str, one: str, name: str) -> Mapping[str, Any]:
    for entry in config[many]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry[one]
            return found
    raise ValueError(f"none of its {many} is called {name!r}")


def _pem(entry: Mapping[str, Any], name: str, directory: Path) -> str | None:
    """A PEM that is in the file itself (`…-data`, base64) or in another, named relative to it."""
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"], validate=True).decode("ascii")
    return (directory / entry[name]).read_text(encoding="ascii") if name in entry else None
