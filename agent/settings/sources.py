"""Where settings come from, and which source wins: flag, environment, .env files, the secrets' directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.text.describe import shown
from agent.settings.fields import FIELDS, Field

DEFAULT_SECRETS = {
    "BETA9_TOKEN": "token",
    "BETA9_SSH_KEY": "ssh_key",
    "BETA9_TAILSCALE_AUTH": "tailscale_auth",
}
"""Files in /etc/beta9-worker/secrets that are used when nothing else names the secret."""

DOTENV_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, eq=False)
class Layer:
    """Variables from one source. `place` completes "BETA9_POOL_NAME …": "" or " (in ./.env)"."""

    place: str
    values: Mapping[str, str]
    flags: bool = False


@dataclass(frozen=True, eq=False)
class Given:
    """A text somebody gave for a setting. `label` is how messages name it."""

    text: str
    label: str
    is_file: bool = False


def from_flags(flags: Mapping[str, object]) -> Layer:
    """Turn what argparse found into a layer; None means that the flag was not given."""
    values = {field.variable: str(flags[field.name]) for field in FIELDS if flags.get(field.name) is not None}
    return Layer("", values, flags=True)


def from_files(env_file: Path | None, directory: Path, etc: Path) -> tuple[list[Layer], list[str]]:
    """Read `--env-file`, or else ./.env and /etc/beta9-worker/worker.env where they exist.

    Returns the layers, the first wins, and what is wrong with the files.
    """
    found = (
        [env_file]
        if env_file
        else [p for p in (directory / ".env", etc / "worker.env") if os.path.lexists(p)]
    )
    layers: list[Layer] = []
    problems: list[str] = []
    for path in found:
        try:
            values, wrong = _read_dotenv(path)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            problems.append(f"{path}: cannot be read ({reason}); correct it, or name another with --env-file")
            continue
        layers.append(Layer(f" (in {path})", values))
        problems += wrong
    return layers, problems


def _read_dotenv(path: Path) -> tuple[dict[str, str], list[str]]:
    from dotenv.parser import parse_stream  # noqa: PLC0415 - needed only where there is such a file

    with path.open(encoding="utf-8-sig") as stream:
        if path.is_file() and path.stat().st_size > DOTENV_LIMIT_BYTES:
            raise OSError(0, f"it is larger than {DOTENV_LIMIT_BYTES} bytes")
        bindings = list(parse_stream(stream))
    # Nothing is interpolated: a token may hold a dollar sign.
    values = {b.key: b.value for b in bindings if b.key and b.value is not None and not b.error}
    bad = [b.original.line for b in bindings if b.error or (b.key and b.value is None)]
    return values, [f"{path}: line {line} is not NAME=value (or a quote is not closed)" for line in bad]


def from_secrets_directory(etc: Path) -> Layer:
    """Name the default secret files that exist, as if they had been given by `*_FILE`."""
    paths = {f"{variable}_FILE": etc / "secrets" / name for variable, name in DEFAULT_SECRETS.items()}
    return Layer(f" (in {etc}/secrets)", {v: str(p) for v, p in paths.items() if os.path.exists(p)})  # noqa: PTH110 - Path.exists raises where the directory may not be entered


def find(field: Field, layers: list[Layer]) -> Given | None:
    """Return what the first layer that knows the setting says.

    Raises:
        ValueError: that layer gives both a value and a file.
    """
    for layer in layers:
        value = _taken(field, layer, field.variable)
        file = _taken(field, layer, f"{field.variable}_FILE") if field.file_variant else None
        if value is not None and file is not None:
            both = f"{field.variable}{layer.place}: given together with {field.variable}_FILE"
            raise ValueError(f"{both}; keep one of the two")
        if file is not None:
            return Given(file, f"{field.variable}_FILE{layer.place}", is_file=True)
        if value is not None:
            label = field.flag if layer.flags and field.flag else f"{field.variable}{layer.place}"
            return Given(value, label)
    return None


def _taken(field: Field, layer: Layer, variable: str) -> str | None:
    value = layer.values.get(variable)
    return None if value == "" and field.may_be_empty else value


def unknown(layers: list[Layer], known: tuple[str, ...]) -> list[str]:
    """Warn of variables that nothing reads: BETA9_* ones, with the nearest name, and AWS's in .env files."""
    from agent.core.text.describe import nearest  # noqa: PLC0415 - see there

    warnings = []
    for layer in layers:
        for variable in layer.values:
            if variable.startswith("AWS_") and layer.place:
                warnings.append(f"{variable}{layer.place} has no effect there; put it into the environment")
            if variable.startswith("BETA9_") and variable not in known:
                near = nearest(variable, known)
                hint = f"; did you mean {near}?" if near else "; see docs/settings.md for those there are"
                warnings.append(f"{shown(variable)}{layer.place} is not a setting and has no effect{hint}")
    return warnings
