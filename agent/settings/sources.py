"""Sources of settings, in order of precedence: flags, environment, .env files, the directory of secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.provisioning.env_file import read_settings
from agent.core.text.describe import shown
from agent.settings.fields import FIELDS, Field

DEFAULT_SECRETS = {
    "BETA9_TOKEN": "token",
    "BETA9_SSH_KEY": "ssh_key",
    "BETA9_TAILSCALE_AUTH": "tailscale_auth",
}
"""Files in /etc/beta9-worker/secrets, used if no other source gives the secret."""

ENV_FILE_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, eq=False)
class Layer:
    """Variables from one source. `place` follows a variable's name in messages: "" or " (in ./.env)"."""

    place: str
    values: Mapping[str, str]
    flags: bool = False


@dataclass(frozen=True, eq=False)
class Given:
    """The text given for a setting. `label` names the setting in messages."""

    text: str
    label: str
    is_file: bool = False


def from_flags(flags: Mapping[str, object]) -> Layer:
    """Return the layer of flags that argparse parsed; a value of None means that the flag was not given."""
    values = {field.variable: str(flags[field.name]) for field in FIELDS if flags.get(field.name) is not None}
    return Layer("", values, flags=True)


def from_files(env_file: Path | None, directory: Path, etc: Path) -> tuple[list[Layer], list[str]]:
    """Read `--env-file`, or else ./.env and /etc/beta9-worker/worker.env if they exist.

    Returns the layers, of which the first wins, and errors in the files.
    """
    defaults = (directory / ".env", etc / "worker.env")
    paths = [env_file] if env_file else [path for path in defaults if os.path.lexists(path)]
    layers: list[Layer] = []
    errors: list[str] = []
    for path in paths:
        try:
            values, problems = _read_env_file(path)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            errors.append(f"{path}: cannot be read ({reason}); fix it, or name another file with --env-file")
            continue
        layers.append(Layer(f" (in {path})", values))
        errors += problems
    return layers, errors


def _read_env_file(path: Path) -> tuple[dict[str, str], list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        if path.is_file() and path.stat().st_size > ENV_FILE_LIMIT_BYTES:
            raise OSError(0, f"it is larger than {ENV_FILE_LIMIT_BYTES} bytes")
        values, problems = read_settings(stream.read())
    return values, [f"{path}: {problem}" for problem in problems]


def from_secrets_directory(etc: Path) -> Layer:
    """Return a layer that names the default secret files that exist, by `*_FILE` variables."""
    paths = {f"{variable}_FILE": etc / "secrets" / name for variable, name in DEFAULT_SECRETS.items()}
    return Layer(f" (in {etc}/secrets)", {v: str(p) for v, p in paths.items() if os.path.exists(p)})  # noqa: PTH110 - Path.exists raises PermissionError if the directory may not be entered


def find(field: Field, layers: list[Layer]) -> Given | None:
    """Return the setting's text from the first layer that has it.

    Raises:
        ValueError: that layer has both a value and a file.
    """
    for layer in layers:
        value = _value(field, layer, field.variable)
        file = _value(field, layer, f"{field.variable}_FILE") if field.file_variant else None
        if value is not None and file is not None:
            conflict = f"{field.variable}{layer.place}: set together with {field.variable}_FILE"
            raise ValueError(f"{conflict}; keep only one of them")
        if file is not None:
            return Given(file, f"{field.variable}_FILE{layer.place}", is_file=True)
        if value is not None:
            label = field.flag if layer.flags and field.flag else f"{field.variable}{layer.place}"
            return Given(value, label)
    return None


def _value(field: Field, layer: Layer, variable: str) -> str | None:
    value = layer.values.get(variable)
    return None if value == "" and field.may_be_empty else value


def unknown(layers: list[Layer], known: tuple[str, ...]) -> list[str]:
    """Return warnings about variables without effect: unknown BETA9_* ones, and AWS_* ones in .env files."""
    from agent.core.text.describe import nearest  # noqa: PLC0415 - imports difflib

    warnings = []
    for layer in layers:
        for variable in layer.values:
            if variable.startswith("AWS_") and layer.place:
                warnings.append(f"{variable}{layer.place} has no effect there; set it in the environment")
            if variable.startswith("BETA9_") and variable not in known:
                near = nearest(variable, known)
                hint = f"; did you mean {near}?" if near else "; docs/settings.md lists all settings"
                warnings.append(f"{shown(variable)}{layer.place} is not a setting and has no effect{hint}")
    return warnings
