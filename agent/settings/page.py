"""docs/settings.md, made from the table of fields: `python -m agent.settings.page > docs/settings.md`."""

from __future__ import annotations

import sys

from agent.settings.fields import BOOTSTRAP_VARIABLES, FIELDS, Field

INTRODUCTION = """\
# Settings

<!-- Made by `python -m agent.settings.page > docs/settings.md`; change agent/settings/fields.py instead. -->

A flag beats the environment, which beats the first `.env` file that has the variable, which beats the default.
Read are `./.env` and `/etc/beta9-worker/worker.env` where they exist, or only the file that `--env-file` names. In
such a file a line is `NAME=value`; quotes may enclose several lines (a key), and nothing in it is expanded. An empty
value counts as not given.

`beta9-worker run --dry-run` shows what is set, and from where. All that is wrong is reported at once, and the agent
ends with exit code 78; a `BETA9_*` variable that nothing reads is a warning that names the nearest one.
"""

SECRETS = """\
## Secrets

Each variable marked *also by file or reference* may be given in these ways; one source must use only one of them:

| | |
|---|---|
| `NAME` | the text itself; visible to whoever may read the process's environment |
| `NAME_FILE` | the path of a file that holds it, read again each time it is needed |
| `NAME=ssm:///path/to/name` | AWS Systems Manager Parameter Store (`ssm://name` for a name without a path) |
| `NAME=secretsmanager://id#json-key` | AWS Secrets Manager, by name or ARN; without `#…` the whole text |

Where neither is given, `/etc/beta9-worker/secrets/token` and `/etc/beta9-worker/secrets/ssh_key` are used if they
exist. References are fetched with the machine's role or the usual chain of credentials, in the region of the ARN,
of `AWS_REGION`, of AWS's configuration file, or of the instance metadata service, in this order. `AWS_*` variables
are read from the environment only, not from `.env` files.

A token travels in an HTTP header, so it is one line without control characters. Blanks and line breaks at its ends
are taken off when it comes from a file or a store.
"""


def page() -> str:
    """Return the whole page."""
    rows = [_row(field) for field in FIELDS if field.name != "tuning"]
    return "\n".join(
        [
            INTRODUCTION,
            "| variable | flag | default | |\n|---|---|---|---|\n" + "\n".join(rows),
            "\n`--once` registers, sends one keepalive, and stops; `--debug` is `BETA9_LOG_LEVEL=debug`. What"
            " `beta9 machine create`\nprints (`--tailscale-url`, `--tailscale-auth`, `--flux-*`) is accepted.\n",
            SECRETS,
            _others(),
        ]
    )


def _row(field: Field) -> str:
    default = field.default_text or (f"`{field.default}`" if field.default else "none")
    marks = " (*also by file or reference*)" if field.file_variant else ""
    flag = f"`{field.flag}`" if field.flag else ""
    return f"| `{field.variable}` | {flag} | {default} | {field.help}{marks} |"


def _others() -> str:
    names = ",\n".join(f"`{name}`" for name in BOOTSTRAP_VARIABLES)
    return f"""\
## Variables of the bootstrap

The bootstrap reads the same `worker.env`. The agent accepts these and leaves them alone:
{names}.

## For tests only

`BETA9_TUNING=field=number,field=number` replaces timings (seconds, where the name ends in `_s`) of
`agent/core/policy.py`, which has their names and defaults. Nothing is promised about what other values do to a real
cluster.
"""


if __name__ == "__main__":
    sys.stdout.write(page())
