"""Reads a kubeconfig file: a Kubernetes API's address and login, in the forms that k3s and kubeadm write.

Logins by a helper program (`exec`, `auth-provider`) are refused: the agent does not run other people's programs.
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
"""Where k3s writes its administrator's kubeconfig."""
_AUTHORITY, _CERTIFICATE, _KEY = "certificate-authority", "client-certificate", "client-key"


@dataclass(frozen=True)
class Access:
    """The address of one API server, and the login for it."""

    host: str
    port: int
    authority_pem: str | None = None
    """The authority that signed its certificate; None: any that this machine trusts."""
    is_verified: bool = True
    token: str | None = field(default=None, repr=False)
    certificate_pem: str | None = field(default=None, repr=False)
    key_pem: str | None = field(default=None, repr=False)
    files: tuple[Path, ...] = ()
    """Other files that hold parts of it, such as kubeadm's certificates, which are renewed in place."""

    @property
    def cluster(self) -> tuple[str, int, str | None]:
        """What identifies the cluster. A renewed client certificate does not change it."""
        return self.host, self.port, self.authority_pem


Stamp = tuple[tuple[int, int, int] | None, ...]
"""For each file what changes with it: inode, modification time, size; None if the file does not exist."""


def find(configured: Path | None) -> Path | None:
    """Return the kubeconfig to use now: the configured one, or else k3s's own if it exists."""
    if configured is not None:
        return configured
    return K3S_PATH if is_there(K3S_PATH) else None


def is_there(path: Path) -> bool:
    """Return whether the file exists. An inaccessible one counts: reading it will report what is wrong."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def stamp(path: Path, access: Access | None) -> Stamp:
    """Return the current stamp of the file and of those that it named when it was read."""
    return tuple(_stamp(each) for each in (path, *(access.files if access else ())))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def read(path: Path) -> Access:
    """Return the access that the file's current context names. Raises: SettingsError with the file and its fault."""
    import yaml

    try:
        return _access(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent)
    except OSError as error:
        raise SettingsError(f"the kubeconfig {path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # Without the parser's message: it may quote the file, which holds a key.
        raise SettingsError(f"the kubeconfig {path} is not valid YAML ({type(error).__name__})") from None
    except (LookupError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise SettingsError(f"the kubeconfig {path} cannot be used: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if isinstance(error, ValueError):
        return str(error)
    return f"it has an unexpected shape ({type(error).__name__})"


def _access(config: Mapping[str, Any], directory: Path) -> Access:
    context = _entry(config, "contexts", "context", config["current-context"])
    cluster = _entry(config, "clusters", "cluster", context["cluster"])
    user = _entry(config, "users", "user", context["user"])
    for program in ("exec", "auth-provider"):
        if program in user:
            raise ValueError(f"it logs in with {program}; use a token or a client certificate instead")
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
    raise ValueError(f"none of its {many} is named {name!r}")


def _pem(entry: Mapping[str, Any], name: str, directory: Path) -> str | None:
    """Return a PEM from the file itself (`…-data`, base64) or from the file that it names."""
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"], validate=True).decode("ascii")
    return (directory / entry[name]).read_text(encoding="ascii") if name in entry else None
