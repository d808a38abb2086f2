"""docs/settings.md, made from the table of settings: `python -m agent.settings.page > docs/settings.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from agent.settings.fields import BOOTSTRAP_VARIABLES, FIELDS, BootstrapVariable, Field
from agent.settings.sources import DEFAULT_SECRETS

INTRODUCTION = """\
# Settings

<!-- Made by `python -m agent.settings.page > docs/settings.md`; change agent/settings/fields/ instead. -->

A flag overrides the environment, the environment overrides `.env` files, and those override the default. The agent
reads `./.env` and then `/etc/beta9-worker/worker.env` if they exist, and the first one that sets a variable wins; with
`--env-file` it reads only that file. An empty value counts as not set.

`beta9-worker run --dry-run` shows every value and where it comes from. The agent reports all errors at once and exits
with code 78. A `BETA9_*` variable that is not a setting causes a warning, which suggests the closest name.
"""

FILES = """\
## What a settings file looks like

The agent, the bootstrap, and `user-data --check` read `worker.env` (and `.env`) by the same rules:

| line | |
|---|---|
| `NAME=value` | the rest of the line, without blanks at its ends; it may contain blanks |
| `NAME='value'` | as it stands, also over several lines; `\\\\` is a backslash and `\\'` a quote |
| `NAME="value"` | the same, and `\\"`, `\\n`, `\\t`, `\\r`, `\\a`, `\\b`, `\\f` and `\\v` are escapes, too |
| `# comment` | also behind a value: after a blank, or after the closing quote |

`export` in front and blanks around `=` make no difference; neither do line ends of Windows or a byte order mark.
Nothing is expanded or executed: `$` and `` ` `` stand for themselves. A name consists of letters, digits, `_`, `.` and
`-`. If a name occurs more than once, the last one counts. The file is UTF-8 text without control characters.

Everything else is refused, with its line number and without its text: a line that is none of these, quotes that are not
closed, text behind closing quotes, quotes around a name. Even then the bootstrap applies `BETA9_ON_FAILURE`, wherever
in the file it stands.
"""

SECRETS = """\
## Secrets

A variable marked *also by file or reference* can be given in one of these ways, but in only one of them per source:

| | |
|---|---|
| `NAME` | the text itself; visible to everyone who can read the process's environment |
| `NAME_FILE` | the path of a file that contains it; read again whenever it is needed |
| `NAME=ssm:///path/to/name` | AWS Systems Manager Parameter Store (`ssm://name` for a name without a path) |
| `NAME=secretsmanager://id#json-key` | AWS Secrets Manager, by name or ARN; without `#…`, the whole text |

If none is given, the agent uses these files if they exist:

{default_files}

References are fetched with the machine's role or AWS's usual credential chain. The region is that of the ARN, of
`AWS_REGION`, of AWS's configuration file, or of the instance metadata service, in this order. `AWS_*` variables are
read from the environment only, not from `.env` files.

A token is sent in an HTTP header, so it must be a single line without control characters. Whitespace around it is
removed if it comes from a file or a secret store.
"""

BOOTSTRAP = """\
## Variables of the bootstrap

The bootstrap reads the same `worker.env`; the agent accepts and ignores these variables. [bootstrap.md](bootstrap.md)
and [gpu.md](gpu.md) explain the most important ones. `versions.env` is `bootstrap/versions.env`, which pins every
version, address and checksum; change an address together with its checksum.
"""

TESTS = """\
## For tests only

`BETA9_TUNING=field=number,field=number` replaces timings of `agent/core/policy.py`, which lists their names and
defaults; names that end in `_s` are in seconds. Values other than the defaults are not
supported on a real cluster.
"""


def page() -> str:
    """Return the whole page."""
    rows = [_row(field) for field in FIELDS if field.name != "tuning"]
    files = "\n".join(
        f"- `/etc/beta9-worker/secrets/{name}` for `{variable}`" for variable, name in DEFAULT_SECRETS.items()
    )
    return "\n".join(
        [
            INTRODUCTION,
            _table("| variable | flag | default | |\n|---|---|---|---|", rows),
            "`--once` registers the machine, sends one keepalive and stops; `--debug` sets `BETA9_LOG_LEVEL=debug`. All"
            " flags that\n`beta9 machine create` prints are accepted; `--flux-*` is ignored.\n",
            FILES,
            SECRETS.replace("{default_files}", files),
            BOOTSTRAP,
            _table(
                "| variable | default | |\n|---|---|---|",
                [_bootstrap_row(row) for name, row in BOOTSTRAP_VARIABLES.items() if name == row.variable],
            ),
            TESTS,
        ]
    )


def _table(head: str, rows: Iterable[str]) -> str:
    return "\n".join([head, *rows]) + "\n"


def _row(field: Field) -> str:
    default = field.default_text or (f"`{field.default}`" if field.default else "none")
    marks = " (*also by file or reference*)" if field.file_variant else ""
    flag = f"`{field.flag}`" if field.flag else ""
    return f"| `{field.variable}` | {flag} | {default} | {field.help}{marks} |"


def _bootstrap_row(variable: BootstrapVariable) -> str:
    names = ", ".join(f"`{name}`" for name in (variable.variable, *variable.aliases))
    return f"| {names} | {variable.default} | {variable.help} |"


if __name__ == "__main__":
    sys.stdout.write(page())
