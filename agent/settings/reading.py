"""Reading all settings at once, so that every problem is reported in one go."""

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
from agent.settings.secret_files import open_to_others
from agent.settings.secret_refs import secret_ref
from agent.settings.sources import Layer
from agent.settings.tuning import tuned
from agent.settings.values import Connection, SecretRef

ETC = Path("/etc/beta9-worker")


@dataclass(eq=False)
class Draft:
    """Values as far as they could be read; `failed` names the settings for which a stand-in stands here."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
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
        flags: `vars()` of what argparse found, as declared by `add_arguments`; None means not given.
        environ: the process's environment.
        directory: where `.env` is looked for; the working directory by default.
        etc: where `worker.env` and `secrets/` are looked for.

    Raises:
        SettingsError: holds every problem there is, one line each.
    """
    settings, problems = examine(flags, environ, directory=directory, etc=etc)
    if problems:
        raise SettingsError(*problems)
    return settings


def examine(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    directory: Path | None = None,
    etc: Path = ETC,
) -> tuple[Settings, tuple[str, ...]]:
    """Read as `load` does, but return the problems beside what could be read, for `doctor`.

    Where a setting has a problem, its default stands in (or an empty name, or a secret that is nowhere).
    """
    draft = Draft()
    env_file = flags.get("env_file")
    files, file_problems = sources.from_files(
        Path(str(env_file)) if env_file else None, directory or Path.cwd(), etc
    )
    draft.problems += file_problems
    layers = [sources.from_flags(flags), Layer("", environ), *files]
    for each in FIELDS:
        _read(draft, each, [*layers, sources.from_secrets_directory(etc)])
    draft.warnings += sources.unknown(layers, known_variables())
    draft.warnings += _flag_warnings(flags, draft) + _file_warnings(draft)
    settings = _settings(draft, flags)
    draft.problems += rules.broken(rules.PROBLEMS, settings, draft.failed)
    draft.warnings += rules.broken(rules.WARNINGS, settings, draft.failed)
    return replace(settings, warnings=tuple(draft.warnings)), tuple(draft.problems)


def _read(draft: Draft, each: Field, layers: list[Layer]) -> None:
    try:
        value = _take(draft, each, layers)
    except ValueError as error:
        draft.problems.append(str(error))
        draft.failed.add(each.name)
        value = each.parse(each.default) if each.default is not None else None
    draft.values[each.name] = value


def _take(draft: Draft, each: Field, layers: list[Layer]) -> object:
    given = sources.find(each, layers)
    if given is None:
        if each.required:
            raise ValueError(_missing(each, layers))
        return each.parse(each.default) if each.default is not None else None
    draft.sources[each.name] = given.label
    if each.file_variant:
        return secret_ref(each.variable, given)
    try:
        return each.parse(given.text)
    except ValueError as error:
        raise ValueError(f"{given.label}: {shown(given.text)} {error}") from error


def _missing(each: Field, layers: list[Layer]) -> str:
    is_empty = any(layer.values.get(each.variable) == "" for layer in layers)
    ways = f"{each.variable}, {each.flag}" if each.flag else each.variable
    if each.file_variant:
        ways = f"{each.variable}_FILE, {ways}, or the file /etc/beta9-worker/secrets/token"
    return f"{each.variable}: {'empty' if is_empty else 'not set'}; give the {each.help} (by {ways})"


def _file_warnings(draft: Draft) -> list[str]:
    refs = [draft.values[each.name] for each in FIELDS if each.secret]
    open_ones = [(ref, open_to_others(ref.file)) for ref in refs if ref and ref.file]
    return [
        f"{ref.setting}_FILE: everybody on this machine may read {ref.file} (mode {mode});"
        f" 'chmod 600 {ref.file}' ends that"
        for ref, mode in open_ones
        if mode
    ]


def _flag_warnings(flags: Mapping[str, object], draft: Draft) -> list[str]:
    warnings = [
        f"{flag}: everybody on this machine can read it in the list of processes; {hidden}_FILE hides it"
        for name, flag, hidden in _SEEN_BY_ALL
        if flags.get(name) and draft.sources.get(name) == flag
    ]
    tailscale = [name for name in ("tailscale_url", "tailscale_auth") if flags.get(name)]
    if tailscale and draft.values.get("connection") is not Connection.TAILSCALE:
        flag = "--" + tailscale[0].replace("_", "-")
        warnings.append(f"{flag} has no effect: set BETA9_CONNECTION=tailscale to use the tailnet")
    return warnings


_SEEN_BY_ALL = (
    ("token", "--token", "BETA9_TOKEN"),
    ("tailscale_auth", "--tailscale-auth", "BETA9_TAILSCALE_AUTH"),
)
"""Secrets that `beta9 machine create` prints as flags."""


def _settings(draft: Draft, flags: Mapping[str, object]) -> Settings:
    values = dict(draft.values)
    if values["connection"] is None:
        values["connection"] = Connection.SSH if values["ssh_host"] else Connection.DIRECT
    values["token"] = values["token"] or SecretRef("BETA9_TOKEN")
    values["pool_name"] = values["pool_name"] or ""
    if flags.get("debug"):
        values["log_level"] = "debug"
        draft.sources["log_level"] = "--debug"
    policy = Policy(
        keepalive_interval_s=values.pop("keepalive_interval_s"), drain_timeout_s=values["drain_timeout_s"]
    )
    policy, wrong = tuned(policy, values.pop("tuning"))
    draft.problems += [f"BETA9_TUNING: {problem}" for problem in wrong]
    draft.failed |= {"tuning"} if wrong else set()
    return Settings(
        **values,
        once=bool(flags.get("once")),
        dry_run=bool(flags.get("dry_run")),
        policy=policy,
        sources=draft.sources,
    )
