"""Settings that make valid user data, the templates in cloud-init/, and what a machine reads from the result."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Protocol

import yaml
from dotenv import dotenv_values

from tests import ROOT

CLOUD_INIT = ROOT / "cloud-init"
TEMPLATE = (CLOUD_INIT / "user-data.yaml").read_text(encoding="utf-8")

SUM = "#sha256=" + "0123456789abcdef" * 4
GOOD = {
    "BETA9_POOL_NAME": "gpu",
    "BETA9_SSH_HOST": "gateway.example.com",
    "BETA9_SSH_HOST_KEY_FINGERPRINT": f"SHA256:{'A' * 43}",
    "BETA9_SOURCE": f"https://example.com/beta9-worker.tar.gz{SUM}",
    "BETA9_TOKEN": "ssm:///beta9/token",
    "BETA9_SSH_KEY": "secretsmanager://beta9#ssh_key",
}
SECRET = "sEcReT-0123456789"


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


PLAIN_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n".format(
    base64.b64encode(
        b"openssh-key-v1\0" + _framed(b"none", b"none", b"") + b"\0\0\0\1" + _framed(b"public", b"private")
    ).decode()
)
"""The frame of a key, with nothing in it."""
HOST_KEY_LINE = f"h ssh-ed25519 {base64.b64encode(_framed(b'ssh-ed25519', bytes(32))).decode()}"

CommandResult = tuple[int, bytes, str]
"""Exit code, stdout and stderr."""


class UserDataCommand(Protocol):
    """Runs the command with settings given by `--set`, and further arguments."""

    def __call__(self, settings: Mapping[str, str], *arguments: str) -> CommandResult:
        """Run it and return its result."""


def without(*names: str) -> dict[str, str]:
    """Return GOOD without some of its settings."""
    return {name: value for name, value in GOOD.items() if name not in names}


def worker_env(config: bytes | str) -> dict[str, str | None]:
    """Return the settings that the machine will read from its worker.env."""
    loaded = yaml.safe_load(config)
    [entry] = [each for each in loaded["write_files"] if each["path"] == "/etc/beta9-worker/worker.env"]
    assert entry["permissions"] == "0600"
    return dict(dotenv_values(stream=io.StringIO(entry["content"]), interpolate=False))
