"""Making a SecretRef of what was given for a secret, having looked at all that needs no network."""

from __future__ import annotations

import re
from pathlib import Path

from agent.core.text.describe import shape, shown, token_problem
from agent.errors import SettingsError
from agent.settings.parsers import expanded
from agent.settings.secret_files import read_secret_file
from agent.settings.sources import Given
from agent.settings.values import SecretRef, is_token

SCHEMES = ("ssm://", "secretsmanager://")
_REFERENCE = r"[A-Za-z][A-Za-z0-9+.-]*://.*"


def secret_ref(variable: str, given: Given) -> SecretRef:
    """Return the reference for what was given.

    Raises:
        ValueError: the text, the file or the reference cannot serve. The message begins with the setting's
            label, and names file paths and references, never a secret.
    """
    if given.is_file:
        return SecretRef(variable, file=_file(variable, given))
    if re.fullmatch(_REFERENCE, given.text):
        return SecretRef(variable, reference=_reference(given))
    problem = secret_problem(variable, given.text)
    if problem:
        raise ValueError(f"{given.label}: {shape(given.text)} {problem}")
    return SecretRef(variable, value=given.text)


def secret_problem(variable: str, text: str) -> str | None:
    """Say why a secret's text cannot serve for its setting ("is …", "holds …"), or None; never the text."""
    if is_token(variable):
        return _tailnet_key_problem(text) if variable == "BETA9_TAILSCALE_AUTH" else token_problem(text)
    from agent.core.tunnel.key_formats import key_problem, known_hosts_problem  # noqa: PLC0415 - 6 ms, for ssh only

    return key_problem(text) if variable == "BETA9_SSH_KEY" else known_hosts_problem(text)


def _tailnet_key_problem(text: str) -> str | None:
    # 'tailscale up' would make a key with it first, at Tailscale's own API and with tags that it needs.
    if text.startswith("tskey-client-"):
        return "is an OAuth client's secret, which logs no machine in; make an auth key"
    problem = token_problem(text)
    return "is no single line of plain characters; give the key alone" if problem else None


def _reference(given: Given) -> str:
    if not given.text.startswith(SCHEMES):
        raise ValueError(
            f"{given.label}: {shape(given.text)} is no reference known here; use {' or '.join(SCHEMES)}"
        )
    scheme, _, rest = given.text.partition("://")
    name, hash_sign, key = rest.partition("#")
    wrong_key = bool(hash_sign) and (scheme == "ssm" or not key)
    if not name.strip("/") or wrong_key or not given.text.isprintable() or " " in name:
        raise ValueError(
            f"{given.label}: {shown(given.text)} names no secret; write ssm:///path/to/name"
            " or secretsmanager://id#json-key"
        )
    return given.text


def _file(variable: str, given: Given) -> Path:
    path = expanded(given.text).absolute() if given.text.isprintable() else None
    # Somebody may have put the secret itself where its file's name belongs: then it must not be shown.
    if path is None or not (given.text.startswith(("/", "~", "./", "../")) or _exists(path)):
        raise ValueError(f"{given.label}: {shape(given.text)} is not the path of a file; give it from / on")
    try:
        text = read_secret_file(path)
    except SettingsError as error:
        raise ValueError(f"{given.label}: {error}") from error
    problem = secret_problem(variable, text.strip() if is_token(variable) else text)
    if problem:
        raise ValueError(f"{given.label}: {path} {problem}")
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a name, or not to be asked for: no path that anybody meant
        return False
