"""The text of worker.env: how it is read and written. docs/settings.md describes the syntax.

`read_settings` in bootstrap/lib/settings.sh and cloud-init/boot.sh reads it in the same way, without Python; a test
puts one table of spellings to all readers. Terraform writes it byte for byte as this module does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_BLANKS = r"[\x20\t]*"
_QUOTED = r"(?P<quote>['\"])(?P<quoted>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)"
_SETTING = re.compile(
    rf"{_BLANKS}(?:export[\x20\t]+)?(?P<name>[A-Za-z0-9_.-]+){_BLANKS}="
    rf"(?:{_BLANKS}{_QUOTED}{_BLANKS}(?:#[^\n]*)?|(?!{_BLANKS}['\"])(?P<bare>[^\n]*))(?=\n|\Z)",
    re.DOTALL,
)
_NO_SETTING = re.compile(rf"{_BLANKS}(?:#[^\n]*)?(?=\n|\Z)")
_QUOTE_OPENS = re.compile(rf"[^\n=]*={_BLANKS}['\"]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COMMENT = re.compile(r"[ \t]#.*")
_ESCAPES = {"'": re.compile(r"\\([\\'])"), '"': re.compile(r"\\([\\'\"abfnrtv])")}
_CONTROL_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BARE = re.compile(r"[A-Za-z0-9_./:@,+=#%-]+")


def read_settings(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the settings, and what is wrong with the others ("line 3 is not …").

    Of several settings with one name the last wins. Never quotes the text, which may be a secret.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r")
    settings: dict[str, str] = {}
    problems: list[str] = []
    position, number, may_follow = 0, 1, False
    while position < len(text):
        match = _NO_SETTING.match(text, position) or _SETTING.match(text, position)
        end = match.end() if match else _end_of_line(text, position)
        problem = None if match else "is not NAME=value (or its quotes are not closed)"
        if _CONTROL.search(text, position, end):
            problem = "contains a control character; remove it"
        if problem is None and match and match.re is _SETTING:
            settings[match["name"]] = _value(match)
        elif problem:
            # Go on with the next line. It may belong to the text in quotes, so what is wrong with it is not reported.
            end = _end_of_line(text, position)
            if not may_follow:
                problems.append(f"line {number} {problem}")
            may_follow = may_follow or _QUOTE_OPENS.match(text, position) is not None
        number += text.count("\n", position, end) + 1
        position = end + 1
    return settings, problems


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value(match: re.Match[str]) -> str:
    quote, quoted = match["quote"], match["quoted"]
    if quote:
        return _ESCAPES[quote].sub(lambda escape: _CONTROL_ESCAPES.get(escape[1], escape[1]), quoted)
    return _COMMENT.sub("", match["bare"]).strip(" \t")


def value_problem(value: str) -> str | None:
    """Return why worker.env cannot contain a value ("contains …"), or None. Never quotes the value."""
    for character in ("'", "\\"):  # parsers of such files treat a backslash in quotes as an escape
        if character in value:
            return (
                f"contains a {character}, which worker.env cannot represent; put the text into a file on the machine"
                " and give its path"
            )
    if any(not character.isprintable() and character != "\n" for character in value):
        return "contains a control character, which worker.env cannot represent; remove it"
    return None


def env_lines(settings: Mapping[str, str]) -> list[str]:
    """Return the lines, sorted by name, without empty values. A value may span several lines.

    Raises: ValueError that names the setting, for a value that worker.env cannot represent.
    """
    lines: list[str] = []
    for name in sorted(settings):
        value = settings[name]
        problem = value_problem(value)
        if problem:
            raise ValueError(f"{name}: {problem}")
        if value:
            quoted = value if _BARE.fullmatch(value) else f"'{value}'"
            lines += f"{name}={quoted}".split("\n")
    return lines
