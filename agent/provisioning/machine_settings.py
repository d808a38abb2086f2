"""The settings of a machine that is still to come: put together here, read there.

Nothing of this machine is looked at: a `_FILE` names a path over there, and a secret may not be at hand at all.
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
from agent.settings.reading import examine
from agent.settings.secret_refs import SCHEMES
from agent.settings.sources import Layer

NOWHERE = Path("/dev/null/nowhere")
"""Where neither a .env file nor a secret can lie."""
STAND_IN = "ssm:///stand-in"
"""For what cannot be looked at from here: a reference is not resolved before it is needed."""
ENVIRONMENT = " (in the environment)"
_LOGIN = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


@dataclass(frozen=True)
class MachineSettings:
    """What goes into worker.env, and what a person should hear of it."""

    values: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    """The variables that hold a secret in plain text."""
    missing: tuple[str, ...] = ()
    """Secrets that the machine will wait for, by the names of their files."""


def layers(
    sets: Mapping[str, str], flags: Mapping[str, object], environ: Mapping[str, str], env_file: Path | None
) -> list[Layer]:
    """Where settings come from, the first wins: --set, flags, environment, --env-file. Raises: SettingsError."""
    from_file, problems = sources.from_files(env_file, NOWHERE, NOWHERE) if env_file else ([], [])
    _raise_if(problems)
    around = Layer(ENVIRONMENT, {k: v for k, v in environ.items() if k.startswith("BETA9_")})
    return [Layer(" (by --set)", sets), sources.from_flags(flags), around, *from_file]


ORIGINS = frozenset({"BETA9_SOURCE", "BETA9_AGENT_IMAGE"})
"""Either says where the machine gets bootstrap and agent from."""


def with_release(given: list[Layer], release: Mapping[str, str]) -> list[Layer]:
    """The release's own pins, unless somebody has chosen an origin: never one of each."""
    chosen = any(layer.values.get(variable) for layer in given for variable in ORIGINS)
    return given if chosen else [*given, Layer(" (of the release)", release)]


def gather(given: list[Layer], off_by_default: bool = False) -> MachineSettings:
    """Put the sources together and look at everything.

    Args:
        given: as `layers` makes them.
        off_by_default: a machine whose boot fails powers itself off, unless somebody said otherwise.

    Raises: SettingsError with all that is wrong, unknown or missing, one line each.
    """
    problems: list[str] = []
    warnings: list[str] = []
    for layer in given:
        for variable in layer.values:
            if variable not in known_variables():
                (warnings if _is_somebody_elses(layer, variable) else problems).append(
                    _unknown(variable, layer)
                )
    values, twice = _merged(given)
    if off_by_default:
        values.setdefault("BETA9_ON_FAILURE", "poweroff")
    settings, wrong = examine({}, _as_read_there(values), directory=NOWHERE, etc=NOWHERE)
    _raise_if([*problems, *twice, *_problems(values), *wrong])
    return MachineSettings(
        values,
        (*warnings, *settings.warnings),
        tuple(sorted(name for name, value in values.items() if is_plain_secret(name, value))),
        tuple(sorted(_missing(values, settings.connection.value))),
    )


def is_plain_secret(variable: str, value: str) -> bool:
    """Whether a value is a secret itself, rather than the name of one."""
    if any(field.secret and field.variable == variable for field in FIELDS):
        return not value.startswith(SCHEMES)
    return "PRIVATE KEY-----" in value or _LOGIN.search(value) is not None


def _merged(given: list[Layer]) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    problems: list[str] = []
    for field in FIELDS:
        try:
            found = sources.find(field, given)
        except ValueError as error:
            problems.append(str(error))
            continue
        if found is not None and found.text:
            values[f"{field.variable}_FILE" if found.is_file else field.variable] = found.text
    for variable in BOOTSTRAP_VARIABLES:
        texts = [layer.values[variable] for layer in given if layer.values.get(variable)]
        if texts:
            values[variable] = texts[0]
    return values, problems


def _problems(values: Mapping[str, str]) -> list[str]:
    """What the agent's own reading does not see: the bootstrap's part, and what is for the machine alone."""
    problems = [f"{name}: {wrong}" for name, value in values.items() if (wrong := value_problem(value))]
    for name, value in values.items():
        wrong = bootstrap_settings.problem(name, value) if name in BOOTSTRAP_VARIABLES else None
        if wrong is None and name.endswith("_FILE") and not value.startswith("/"):
            wrong = f"{name}: {shape(value)} is not a path on the machine; give it from / on"
        problems += [wrong] if wrong else []
    if not ORIGINS & set(values):
        problems.append(
            "BETA9_SOURCE: not set, and neither is BETA9_AGENT_IMAGE: nothing says where the machine gets bootstrap"
            " and agent; give one of the two"
        )
    if not {"BETA9_SSH_HOST", "BETA9_CONNECTION"} & set(values):
        problems.append(
            "BETA9_SSH_HOST: not set; name the host to dial, or choose another way by BETA9_CONNECTION"
        )
    return problems


def _as_read_there(values: Mapping[str, str]) -> dict[str, str]:
    """An environment with which this machine can tell what that one will say, files and secrets aside."""
    known = {field.variable for field in FIELDS}
    there = {name: value for name, value in values.items() if name in known}
    there.update({name[:-5]: STAND_IN for name in values if name.endswith("_FILE") and name[:-5] in known})
    there.setdefault("BETA9_TOKEN", STAND_IN)
    if "BETA9_CONNECTION" not in there:
        there.setdefault("BETA9_SSH_HOST", "stand-in.invalid")
    if there.get("BETA9_SSH_HOST"):
        there.setdefault("BETA9_SSH_KEY", STAND_IN)
    return there


def _missing(values: Mapping[str, str], connection: str) -> set[str]:
    by_connection = {"ssh": "BETA9_SSH_KEY", "tailscale": "BETA9_TAILSCALE_AUTH"}
    wanted = {"BETA9_TOKEN", by_connection.get(connection, "BETA9_TOKEN")}
    return {
        sources.DEFAULT_SECRETS[variable]
        for variable in wanted
        if not {variable, f"{variable}_FILE"} & set(values)
    }


def _is_somebody_elses(layer: Layer, variable: str) -> bool:
    """Other programs have BETA9_* variables in the environment, too; what resembles one of ours is a slip."""
    return layer.place == ENVIRONMENT and nearest(variable, known_variables()) is None


def _unknown(variable: str, layer: Layer) -> str:
    near = nearest(variable, known_variables())
    hint = f"did you mean {near}?" if near else "docs/settings.md has those there are"
    return f"{shown(variable)}{layer.place} is not a setting and nothing would read it; {hint}"


def _raise_if(problems: list[str]) -> None:
    if problems:
        raise SettingsError(*problems)
