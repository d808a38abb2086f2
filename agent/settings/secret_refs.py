"""Make a SecretRef from the text given for a secret, and check all that can be checked without network."""

from __future__ import annotations

import re
from pathlib import Path

from agent.core.text.describe import shape, shown, token_problem
from agent.core.text.pasted import visible
from agent.errors import SettingsError
from agent.settings.parsers import expanded
from agent.settings.secret_files import read_secret_file
from agent.settings.sources import Given
from agent.settings.values import SecretRef, is_token

SCHEMES = ("ssm://", "secretsmanager://")
_REFERENCE = r"[A-Za-z][A-Za-z0-9+.-]*://.*"


def secret_ref(variable: str, given: Given) -> SecretRef:
    """Return the SecretRef for a given text.

    Raises:
        ValueError: the text, the file or the reference cannot be used. The message begins with the setting's
            label; it may contain file paths and references, never a secret.
    """
    if given.is_file:
        return SecretRef(variable, file=_file(variable, given))
    if re.fullmatch(_REFERENCE, given.text):
        return SecretRef(variable, reference=_reference(given))
    try:
        return SecretRef(variable, value=usable_secret(variable, given.text))
    except ValueError as error:
        raise ValueError(f"{given.label}: {shape(given.text)} {error}") from error


def usable_secret(variable: str, text: str) -> str:
    """Return a secret as its setting needs it, without what pasting and saving have added to it or taken from it.

    Raises:
        ValueError: it cannot be used. The message completes a sentence ("is …", "contains …") and never quotes it.
    """
    if is_token(variable):
        token = visible(text).strip()
        problem = _tailnet_key_problem(token) if variable == "BETA9_TAILSCALE_AUTH" else token_problem(token)
        if problem:
            raise ValueError(problem)
        return token
    from agent.core.tunnel import key_formats, known_hosts  # noqa: PLC0415 - 6 ms, for ssh only

    return key_formats.private_key(text) if variable == "BETA9_SSH_KEY" else known_hosts.known_hosts(text)


def _tailnet_key_problem(text: str) -> str | None:
    # An OAuth client would first have to create an auth key, through Tailscale's API and with tags.
    if text.startswith("tskey-client-"):
        return "is the secret of an OAuth client, which cannot log a machine in; create an auth key"
    problem = token_problem(text)
    return "is not a single line of plain characters; give only the key" if problem else None


def _reference(given: Given) -> str:
    if not given.text.startswith(SCHEMES):
        raise ValueError(
            f"{given.label}: {shape(given.text)} is not a supported reference; use {' or '.join(SCHEMES)}"
        )
    scheme, _, rest = given.text.partition("://")
    name, hash_sign, key = rest.partition("#")
    wrong_key = bool(hash_sign) and (scheme == "ssm" or not key)
    if not name.strip("/") or wrong_key or not given.text.isprintable() or " " in name:
        raise ValueError(
            f"{given.label}: {shown(given.text)} does not name a secret; write ssm:///path/to/name"
            " or secretsmanager://id#json-key"
        )
    return given.text


def _file(variable: str, given: Given) -> Path:
    path = expanded(given.text).absolute() if given.text.isprintable() else None
    # The value may be the secret itself, put where its file's name belongs: never show it.
    if path is None or not (given.text.startswith(("/", "~", "./", "../")) or _exists(path)):
        raise ValueError(f"{given.label}: {shape(given.text)} is not a file path; give an absolute path")
    try:
        text = read_secret_file(path)
    except SettingsError as error:
        raise ValueError(f"{given.label}: {error}") from error
    try:
        usable_secret(variable, text)
    except ValueError as error:
        raise ValueError(f"{given.label}: {path} {error}") from error
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a file name, or not accessible: not a path
        return False
