"""Settings of a machine that does not exist yet: collected here, read there.

This machine's files are not read: a `_FILE` variable names a path on the new machine, and secrets may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.core.provisioning.env_file import value_problem
from agent.core.text.describe import nearest, shape, shown
from agent.errors import SettingsError
from agent.provisioning import bootstrap_settings
from agent.settings import sources
from agent.settings.fields import BOOTSTRAP_VARIABLES, FIELDS, known_variables
from agent.settings.proxies import NAMES as PROXIES
from agent.settings.reading import examine
from agent.settings.secret_refs import SCHEMES
from agent.settings.sources import Layer

NOWHERE = Path("/dev/null/nowhere")
"""A directory that cannot contain a .env file or a secret."""
STAND_IN = "ssm:///stand-in"
"""Replaces what cannot be checked from here. References are resolved only when needed, so this one never is."""
ENVIRONMENT = " (in the environment)"
_LOGIN = re.compile(r"//[^/@\s:]*:[^/@\s]+@")


@dataclass(frozen=True)
class MachineSettings:
    """The content of worker.env, and what to tell the user about it."""

    values: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    """Variables that contain a secret in plain text."""
    missing: tuple[str, ...] = ()
    """Secrets that the machine will wait for, by file name."""


def layers(
    sets: Mapping[str, str], flags: Mapping[str, object], environ: Mapping[str, str], env_file: Path | None
) -> list[Layer]:
    """Return the sources, of which the first wins: --set, flags, environment, --env-file. Raises: SettingsError."""
    from_file, errors = sources.from_files(env_file, NOWHERE, NOWHERE) if env_file else ([], [])
    _raise_if(errors)
    environment = Layer(ENVIRONMENT, {k: v for k, v in environ.items() if k.startswith("BETA9_")})
    return [Layer(" (from --set)", sets), sources.from_flags(flags), environment, *from_file]


ORIGINS = frozenset({"BETA9_SOURCE", "BETA9_AGENT_IMAGE"})
"""Each of them names where the machine gets the bootstrap and the agent from."""


def with_release(given: list[Layer], release: Mapping[str, str]) -> list[Layer]:
    """Add the release's own source and image, unless another origin is given: the two must not be mixed."""
    chosen = any(layer.values.get(variable) for layer in given for variable in ORIGINS)
    return given if chosen else [*given, Layer(" (from the release)", release)]


def gather(given: list[Layer], *, off_by_default: bool = False, is_written: bool = False) -> MachineSettings:
    """Merge the sources and check everything.

    Args:
        given: sources as returned by `layers`.
        off_by_default: whether a machine powers itself off if its boot fails and the settings do not say.
        is_written: whether they come from a worker.env, so that they need not be suitable for writing one.

    Raises: SettingsError with everything that is wrong, unknown or missing, one line each.
    """
    errors: list[str] = []
    warnings: list[str] = []
    for layer in given:
        for variable in layer.values:
            if variable not in known_variables():
                (warnings if _is_foreign(layer, variable) else errors).append(_unknown(variable, layer))
    values, conflicts = _merged(given)
    if off_by_default:
        values.setdefault("BETA9_ON_FAILURE", "poweroff")
    settings, agent_errors = examine({}, _environment_there(values), directory=NOWHERE, etc=NOWHERE)
    if not is_written:
        errors += [f"{name}: {error}" for name, value in values.items() if (error := value_problem(value))]
    _raise_if([*errors, *conflicts, *_errors(values), *agent_errors])
    return MachineSettings(
        values,
        (*warnings, *settings.warnings),
        tuple(sorted(name for name, value in values.items() if is_plain_secret(name, value))),
        tuple(sorted(_missing(values, settings.connection.value))),
    )


def is_plain_secret(variable: str, value: str) -> bool:
    """Return whether a value is a secret itself, rather than a reference to one."""
    if any(field.secret and field.variable == variable for field in FIELDS):
        return not value.startswith(SCHEMES)
    # A proxy may be given without its scheme.
    text = f"//{value}" if variable.lower() in PROXIES else value
    return "PRIVATE KEY-----" in value or _LOGIN.search(text) is not None


def _merged(given: list[Layer]) -> tuple[dict[str, str], list[str]]:
    """Return the value of each variable, and the conflicts within a source."""
    values: dict[str, str] = {}
    conflicts: list[str] = []
    for field in FIELDS:
        try:
            found = sources.find(field, given)
        except ValueError as error:
            conflicts.append(str(error))
            continue
        if found is not None and found.text:
            values[f"{field.variable}_FILE" if found.is_file else field.variable] = found.text
    for variable in BOOTSTRAP_VARIABLES:
        texts = [layer.values[variable] for layer in given if layer.values.get(variable)]
        if texts:
            values[variable] = texts[0]
    return values, conflicts


def _errors(values: Mapping[str, str]) -> list[str]:
    """Return errors that `examine` does not find: in the bootstrap's variables, paths, and required ones."""
    errors = []
    for name, value in values.items():
        error = bootstrap_settings.problem(name, value) if name in BOOTSTRAP_VARIABLES else None
        if error is None and name.endswith("_FILE") and not value.startswith("/"):
            error = f"{name}: {shape(value)} is not a path on the machine; give an absolute path"
        errors += [error] if error else []
    if not ORIGINS & set(values):
        errors.append(
            "BETA9_SOURCE: not set, and neither is BETA9_AGENT_IMAGE, so the machine cannot get the bootstrap and the"
            " agent; set one of the two"
        )
    if not {"BETA9_SSH_HOST", "BETA9_CONNECTION"} & set(values):
        errors.append(
            "BETA9_SSH_HOST: not set; give the SSH host to dial, or choose another connection with BETA9_CONNECTION"
        )
    return errors


def _environment_there(values: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which `examine` finds here what the agent would find there, except files and secrets."""
    known = {field.variable for field in FIELDS}
    environment = {name: value for name, value in values.items() if name in known}
    environment.update(
        {name[:-5]: STAND_IN for name in values if name.endswith("_FILE") and name[:-5] in known}
    )
    environment.setdefault("BETA9_TOKEN", STAND_IN)
    if "BETA9_CONNECTION" not in environment:
        environment.setdefault("BETA9_SSH_HOST", "stand-in.invalid")
    if environment.get("BETA9_SSH_HOST"):
        environment.setdefault("BETA9_SSH_KEY", STAND_IN)
    return environment


def _missing(values: Mapping[str, str], connection: str) -> set[str]:
    by_connection = {"ssh": "BETA9_SSH_KEY", "tailscale": "BETA9_TAILSCALE_AUTH"}
    wanted = {"BETA9_TOKEN", by_connection.get(connection, "BETA9_TOKEN")}
    return {
        sources.DEFAULT_SECRETS[variable]
        for variable in wanted
        if not {variable, f"{variable}_FILE"} & set(values)
    }


def _is_foreign(layer: Layer, variable: str) -> bool:
    """Return whether an unknown variable belongs to another program.

    Others also have BETA9_* variables in the environment; one that resembles a setting is a typing mistake.
    """
    return layer.place == ENVIRONMENT and nearest(variable, known_variables()) is None


def _unknown(variable: str, layer: Layer) -> str:
    near = nearest(variable, known_variables())
    hint = f"did you mean {near}?" if near else "docs/settings.md lists all settings"
    return f"{shown(variable)}{layer.place} is not a setting and would have no effect; {hint}"


def _raise_if(errors: list[str]) -> None:
    if errors:
        raise SettingsError(*errors)
