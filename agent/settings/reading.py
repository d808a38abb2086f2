"""Read all settings at once, so that all errors are reported together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.core.policy import Policy
from agent.core.text.describe import shown
from agent.errors import SettingsError
from agent.settings import rules, sources
from agent.settings.fields import FIELDS, Field, known_variables
from agent.settings.model import Settings
from agent.settings.proxies import proxy_environment
from agent.settings.secret_files import open_to_others
from agent.settings.secret_refs import secret_ref
from agent.settings.sources import Layer
from agent.settings.tuning import tuned
from agent.settings.values import Connection, SecretRef

ETC = Path("/etc/beta9-worker")


@dataclass(eq=False)
class Draft:
    """Values read so far. `failed` names the settings with an error, whose value is a default or None."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    directory: Path | None = None,
    etc: Path = ETC,
) -> Settings:
    """Read and check all settings.

    Args:
        flags: `vars()` of the namespace that argparse returned (see `add_arguments`); None means not given.
        environ: the process's environment.
        directory: where `.env` may be; the working directory by default.
        etc: where `worker.env` and `secrets/` may be.

    Raises:
        SettingsError: contains all errors, one line each.
    """
    settings, errors = examine(flags, environ, directory=directory, etc=etc)
    if errors:
        raise SettingsError(*errors)
    return settings


def examine(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    directory: Path | None = None,
    etc: Path = ETC,
) -> tuple[Settings, tuple[str, ...]]:
    """Read as `load` does, but return the errors beside the settings, for `doctor`.

    A setting with an error has its default (or an empty name, or a SecretRef without a source).
    """
    draft = Draft()
    env_file = flags.get("env_file")
    files, file_errors = sources.from_files(
        Path(str(env_file)) if env_file else None, directory or Path.cwd(), etc
    )
    draft.errors += file_errors
    layers = [sources.from_flags(flags), Layer("", environ), *files]
    for setting in FIELDS:
        _read(draft, setting, [*layers, sources.from_secrets_directory(etc)])
    draft.warnings += sources.unknown(layers, known_variables())
    draft.warnings += _flag_warnings(flags, draft) + _file_warnings(draft)
    settings = _settings(draft, flags)
    draft.errors += rules.broken(rules.ERRORS, settings, draft.failed)
    draft.warnings += rules.broken(rules.WARNINGS, settings, draft.failed)
    settings = replace(settings, warnings=tuple(draft.warnings), proxies=proxy_environment(layers))
    return settings, tuple(draft.errors)


def _read(draft: Draft, setting: Field, layers: list[Layer]) -> None:
    try:
        value = _parsed(draft, setting, layers)
    except ValueError as error:
        draft.errors.append(str(error))
        draft.failed.add(setting.name)
        value = _default(setting)
    draft.values[setting.name] = value


def _parsed(draft: Draft, setting: Field, layers: list[Layer]) -> object:
    given = sources.find(setting, layers)
    if given is None:
        if setting.required:
            raise ValueError(_missing(setting, layers))
        return _default(setting)
    draft.sources[setting.name] = given.label
    if setting.file_variant:
        return secret_ref(setting.variable, given)
    try:
        return setting.parse(given.text)
    except ValueError as error:
        raise ValueError(f"{given.label}: {shown(given.text)} {error}") from error


def _default(setting: Field) -> object:
    return setting.parse(setting.default) if setting.default is not None else None


def _missing(setting: Field, layers: list[Layer]) -> str:
    is_empty = any(layer.values.get(setting.variable) == "" for layer in layers)
    ways = f"{setting.variable}, {setting.flag}" if setting.flag else setting.variable
    if setting.file_variant:
        ways = f"{setting.variable}_FILE, {ways}, or the file /etc/beta9-worker/secrets/token"
    return f"{setting.variable}: {'empty' if is_empty else 'not set'}; give the {setting.help} (with {ways})"


def _file_warnings(draft: Draft) -> list[str]:
    refs = [draft.values[setting.name] for setting in FIELDS if setting.secret]
    modes = [(ref, open_to_others(ref.file)) for ref in refs if ref and ref.file]
    return [
        f"{ref.setting}_FILE: every user of this machine can read {ref.file} (mode {mode});"
        f" 'chmod 600 {ref.file}' prevents that"
        for ref, mode in modes
        if mode
    ]


def _flag_warnings(flags: Mapping[str, object], draft: Draft) -> list[str]:
    return [
        f"{flag}: every user of this machine can read it in the process list; use {variable}_FILE instead"
        for name, flag, variable in _SECRET_FLAGS
        if flags.get(name) and draft.sources.get(name) == flag
    ]


_SECRET_FLAGS = (
    ("token", "--token", "BETA9_TOKEN"),
    ("tailscale_auth", "--tailscale-auth", "BETA9_TAILSCALE_AUTH"),
)
"""Secrets that `beta9 machine create` prints as flags."""


def _settings(draft: Draft, flags: Mapping[str, object]) -> Settings:
    values = dict(draft.values)
    if values["connection"] is None:
        is_ssh = bool(values["ssh_host"])
        values["connection"] = Connection.SSH if is_ssh else Connection.DIRECT
        draft.sources["connection"] = f"default: BETA9_SSH_HOST is {'' if is_ssh else 'not '}set"
    values["token"] = values["token"] or SecretRef("BETA9_TOKEN")
    values["pool_name"] = values["pool_name"] or ""
    if flags.get("debug"):
        values["log_level"] = "debug"
        draft.sources["log_level"] = "--debug"
    policy = Policy(
        keepalive_interval_s=values.pop("keepalive_interval_s"), drain_timeout_s=values["drain_timeout_s"]
    )
    policy, errors = tuned(policy, values.pop("tuning"))
    draft.errors += [f"BETA9_TUNING: {error}" for error in errors]
    draft.failed |= {"tuning"} if errors else set()
    return Settings(
        **values,
        once=bool(flags.get("once")),
        dry_run=bool(flags.get("dry_run")),
        policy=policy,
        sources=draft.sources,
    )
