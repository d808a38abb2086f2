"""Writes bootstrap/share: the completion scripts for bash and zsh, and the manual page, from the agent's own tables.

python -m scripts.shell_files          write them
python -m scripts.shell_files --check  list what is out of date, and exit with 1
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from agent import __version__
from agent.cli import PROGRAM, build_parser
from agent.commands.completion import text
from agent.completion.words import Command, Option, commands
from agent.settings.fields import BOOTSTRAP_VARIABLES, FIELDS
from agent.settings.sources import DEFAULT_SECRETS

ROOT = Path(__file__).resolve().parents[1]
SHARE = ROOT / "bootstrap" / "share"

_HEAD = f"""\
.\\" Made by `python -m scripts.shell_files`; change the tables in agent/ instead.
.TH BETA9\\-WORKER 1 "" "{PROGRAM} {__version__}" "User Commands"
.SH NAME
beta9\\-worker \\- turn this machine into a worker of a Beta9 cluster
.SH SYNOPSIS
.B beta9\\-worker
.RI [ COMMAND ]
.RI [ OPTION ...]
"""
_FILES = {
    "/etc/beta9-worker/worker.env": "the settings, one NAME=value a line",
    **{
        f"/etc/beta9-worker/secrets/{name}": f"used for {given} if that is not set"
        for given, name in DEFAULT_SECRETS.items()
    },
    "/var/lib/beta9-worker": "the state directory: the machine's id, the record of its bootstrap",
}


def files() -> dict[str, str]:
    """Return the text of each file by its name in bootstrap/share."""
    return {f"{PROGRAM}.bash": text("bash"), f"_{PROGRAM}": text("zsh"), f"{PROGRAM}.1": manual()}


def manual() -> str:
    """Return the manual page, in roff with the macros of man(7)."""
    parser = build_parser()
    known = commands(parser)
    flags = {field.flag for field in FIELDS if field.flag}
    variables = BOOTSTRAP_VARIABLES.values()
    parts: list[Iterable[str]] = [
        [_HEAD.rstrip("\n"), ".SH DESCRIPTION", _plain(parser.description or "")],
        [
            _plain(
                "Without a command, run is meant. Everything is explained in the directory docs of the source."
            )
        ],
        [".SH COMMANDS", *(line for command in known for line in _command(command, flags))],
        [".SH SETTINGS"],
        [_plain("A flag overrides the environment, which overrides ./.env, which overrides worker.env.")],
        *(
            _item(f.variable + (f", {f.flag}" if f.flag else ""), f.help, f.default_text or f.default)
            for f in FIELDS
        ),
        [".SH VARIABLES OF THE BOOTSTRAP"],
        *(_item(", ".join((each.variable, *each.aliases)), each.help, each.default) for each in variables),
        [
            ".SH EXIT STATUS",
            *(line for code, meaning in _exit_codes() for line in _item(code, meaning, None)),
        ],
        [".SH FILES", *(line for path, what in _FILES.items() for line in _item(path, what, None))],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _command(command: Command, flags: set[str]) -> Iterator[str]:
    yield f".SS {_escaped(command.name)}"
    yield _plain(_sentence(command.description or command.help))
    own = [
        option
        for option in command.options
        if not flags.intersection(option.names) and "-h" not in option.names
    ]
    for option in (*command.arguments, *own):
        yield from _item(_written(option), option.help, None)
    if len(own) + 1 < len(command.options):
        yield ".PP"
        yield _plain("The flags of the settings are accepted, too.")
    if command.epilog:
        yield ".PP"
        yield ".nf"
        yield from (_escaped(line) for line in command.epilog.rstrip().splitlines())
        yield ".fi"


def _written(option: Option) -> str:
    value = option.metavar or "|".join(option.choices)
    if not option.names:
        return value
    return ", ".join(option.names) + (f" {value}" if value else "")


def _item(term: str, meaning: str, default: str | None) -> list[str]:
    end = f" [{default}]" if default and default != "none" else ""
    return [".TP", f".B {_escaped(term)}", _plain(meaning + end)]


def _exit_codes() -> Sequence[tuple[str, str]]:
    """Return the codes and their meanings from the README's table."""
    table = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("| exit code | meaning |")[2]
        .partition("\n\n")[0]
    )
    return re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)


def _sentence(content: str) -> str:
    return content[:1].upper() + content[1:] + ("" if content.endswith(".") else ".")


def _plain(content: str) -> str:
    """Return a line of running text, without Markdown's marks."""
    return _escaped(re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", content.replace("`", "")))


def _escaped(content: str) -> str:
    content = content.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{content}" if content.startswith((".", "'")) else content


def main(arguments: Sequence[str]) -> int:
    stale = [name for name, content in files().items() if not _is(SHARE / name, content)]
    if "--check" in arguments:
        print("".join(f"bootstrap/share/{name} is out of date\n" for name in stale), end="")
        return 1 if stale else 0
    SHARE.mkdir(exist_ok=True)
    for name in stale:
        (SHARE / name).write_text(files()[name], encoding="utf-8")
    return 0


def _is(path: Path, content: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == content


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
