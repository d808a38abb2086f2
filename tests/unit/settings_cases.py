"""The smallest settings that work, and ways to load settings."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ExitCode, SettingsError
from agent.settings import Settings, add_arguments, load, without_ignored

TOKEN = "swwMV_WA4C_FxN-_UY5UiRgdg2dTM1GUDLVUzO9c6fzyOs0BUJuXKLfxb-QcZkwAnlOGscu0U3WYmF1eQpcSBg=="
MINIMAL = {"BETA9_TOKEN": TOKEN, "BETA9_POOL_NAME": "gpu"}
HOST_KEY = (
    "gateway.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGgMn2tTRYzh6DfMNVvQ4kIh4pHnGLJ5wZ5mDqoQ3Fx"
)


def read(environ: dict[str, str], **flags: object) -> Settings:
    """Load with these variables and flags only; `.env` and worker.env are read from the working directory."""
    return load(flags, environ, etc=Path("etc"))


def with_(**variables: str) -> dict[str, str]:
    """Return MINIMAL with further variables."""
    return {**MINIMAL, **variables}


def problems(environ: dict[str, str], **flags: object) -> tuple[str, ...]:
    """Load settings that are refused; return the problems that are named."""
    with pytest.raises(SettingsError) as caught:
        read(environ, **flags)
    assert caught.value.exit_code is ExitCode.UNUSABLE
    return caught.value.problems


def parsed(*arguments: str) -> dict[str, Any]:
    """Return the flags as the command line gives them to `load`."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return vars(parser.parse_args(without_ignored(arguments)))


def ssh(tmp_path: Path, **variables: str) -> dict[str, str]:
    """Return settings for a connection by SSH, with a new key in `tmp_path`."""
    key = tmp_path / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    own = {
        "BETA9_SSH_HOST": "gateway.example.com",
        "BETA9_SSH_KEY_FILE": str(key),
        "BETA9_SSH_KNOWN_HOSTS": HOST_KEY,
    }
    return with_(**{**own, **variables})
