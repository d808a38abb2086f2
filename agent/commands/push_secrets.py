"""`beta9-worker push-secrets`: give a new machine its token and its key, where no secret store does."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.core.provisioning.push_protocol import WHERE, Target
from agent.core.text.describe import shown
from agent.errors import ExitCode, SettingsError
from agent.provisioning import machine_settings
from agent.settings import parsers, sources
from agent.settings.fields import BY_NAME
from agent.settings.secret_refs import secret_ref
from agent.settings.sources import Layer

if TYPE_CHECKING:
    from agent.adapters.secrets.resolver import Secrets

T = TypeVar("T")

_EPILOG = """\
The machine's bootstrap waits for /etc/beta9-worker/secrets/token and ssh_key, and goes on once they are there. They
are taken here from --token-file and --ssh-key-file, or from BETA9_TOKEN(_FILE) and BETA9_SSH_KEY(_FILE), which may be
references. ssh uses your own configuration and agent, but an unknown host key is refused: its fingerprint stands in
the cloud's console log.

  beta9-worker push-secrets ubuntu@192.0.2.7 --fingerprint SHA256:... --token-file token --ssh-key-file ssh_key
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "push-secrets",
        help="bring token and key to a new machine over ssh",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "where", metavar="USER@HOST", help="root, or a user with sudo that asks for no password"
    )
    parser.add_argument("--port", default="22", help="[22]")
    parser.add_argument("--identity", metavar="FILE", help="key to log in with [as ssh finds one]")
    known = parser.add_mutually_exclusive_group()
    known.add_argument(
        "--known-hosts", metavar="FILE", help="with the machine's host key [your own known_hosts]"
    )
    known.add_argument(
        "--fingerprint", metavar="SHA256:…", help="of the machine's host key; several by commas"
    )
    parser.add_argument("--token-file", metavar="FILE", help="machine token [BETA9_TOKEN, BETA9_TOKEN_FILE]")
    parser.add_argument(
        "--ssh-key-file", metavar="FILE", help="tunnel key [BETA9_SSH_KEY, BETA9_SSH_KEY_FILE]"
    )
    parser.add_argument("--tailscale-auth-file", metavar="FILE", help="[BETA9_TAILSCALE_AUTH(_FILE)]")
    parser.add_argument("--env-file", metavar="FILE", help="read those variables from this file, too")
    parser.add_argument(
        "--wait", default="600", metavar="SECONDS", help="for a machine that still boots [600]"
    )
    parser.add_argument("--directory", default=WHERE, metavar="DIR", help="over there [%(default)s]")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Bring them. Raises: SettingsError, HostKeyError, TransientError."""
    from agent.provisioning.push import proven, push_secrets

    target, wait_s = _target(args), _parsed("--wait", args.wait, parsers.seconds_or_none)
    if not args.directory.startswith("/"):
        raise SettingsError(
            f"--directory: {shown(args.directory)} is not a path on the machine; give it from / on"
        )
    secrets = _secrets(args)
    with contextlib.ExitStack() as stack:
        if args.fingerprint:
            expected = _parsed("--fingerprint", args.fingerprint, parsers.fingerprints)
            target = stack.enter_context(proven(target, expected, wait_s, _say))
        done = push_secrets(target, secrets, args.directory, wait_s=wait_s, said=_say)
    for name, how in done.items():
        path = f"{target.host}:{args.directory}/{name}"
        print(f"{name}: written to {path}" if how == "new" else f"{name}: {path} was the same already")
    return ExitCode.OK


def _target(args: argparse.Namespace) -> Target:
    user, at, host = str(args.where).rpartition("@")
    for option in ("identity", "known_hosts"):
        path = getattr(args, option)
        if path and not Path(path).is_file():
            raise SettingsError(f"--{option.replace('_', '-')}: there is no file {path}; name another")
    return Target(
        _parsed("USER@HOST", host, parsers.host),
        _parsed("USER@HOST", user, parsers.user) if at else None,
        _parsed("--port", args.port, parsers.port),
        str(Path(args.identity).absolute()) if args.identity else None,
        str(Path(args.known_hosts).absolute()) if args.known_hosts else None,
    )


def _secrets(args: argparse.Namespace) -> dict[str, str]:
    """The secrets' texts by the names of their files, as far as they are given."""
    from agent.adapters.secrets.resolver import Secrets

    env_file = Path(args.env_file) if args.env_file else None
    files = {
        f"{variable}_FILE": getattr(args, f"{name}_file")
        for variable, name in sources.DEFAULT_SECRETS.items()
    }
    named = Layer(" (on the command line)", {name: path for name, path in files.items() if path})
    layers = [named, *machine_settings.layers({}, {}, os.environ, env_file)]
    texts = {name: _resolved(name, layers, Secrets()) for name in sources.DEFAULT_SECRETS.values()}
    found = {name: text for name, text in texts.items() if text is not None}
    if not found:
        raise SettingsError("no secret is given; name files by --token-file and --ssh-key-file")
    return found


def _resolved(name: str, layers: list[Layer], secrets: Secrets) -> str | None:
    field = BY_NAME[name]
    try:
        given = sources.find(field, layers)
        if given is None:
            return None
        text = secrets.resolve(secret_ref(field.variable, given))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    # ssh cannot read a key without its last line break; the others are one line, sent as they are.
    return text.strip() + ("\n" if name == "ssh_key" else "")


def _parsed(label: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{label}: {shown(text)} {error}") from error


def _say(text: str) -> None:
    print(f"push-secrets: {text}", file=sys.stderr)
