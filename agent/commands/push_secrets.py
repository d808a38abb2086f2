"""`beta9-worker push-secrets`: deliver the token and the key to a new machine if there is no secret store."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.core.provisioning.push_protocol import DIRECTORY, Target
from agent.core.text.describe import shown
from agent.errors import ExitCode, SettingsError
from agent.provisioning import machine_settings
from agent.settings import amounts, parsers, sources
from agent.settings.fields import BY_NAME
from agent.settings.secret_refs import secret_ref
from agent.settings.sources import Layer

if TYPE_CHECKING:
    from agent.adapters.secrets.resolver import Secrets

T = TypeVar("T")

_EPILOG = """\
The machine's bootstrap waits until /etc/beta9-worker/secrets/token and ssh_key exist. This command takes them from
--token-file and --ssh-key-file, or from BETA9_TOKEN(_FILE) and BETA9_SSH_KEY(_FILE), which may be references. ssh uses
your own configuration and agent, but rejects an unknown host key: the cloud's console log shows its fingerprint.

  beta9-worker push-secrets ubuntu@192.0.2.7 --fingerprint SHA256:... --token-file token --ssh-key-file ssh_key
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "push-secrets",
        help="deliver the token and the key to a new machine over ssh",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "where", metavar="USER@HOST", help="root, or a user who can use sudo without a password"
    )
    parser.add_argument("--port", default="22", help="SSH port of the machine [22]")
    parser.add_argument("--identity", metavar="FILE", help="private key to log in with [ssh's default]")
    known = parser.add_mutually_exclusive_group()
    known.add_argument(
        "--known-hosts", metavar="FILE", help="file with the machine's host key [your known_hosts]"
    )
    known.add_argument(
        "--fingerprint",
        metavar="SHA256:…",
        help="fingerprint of the machine's host key; comma-separated if several",
    )
    parser.add_argument("--token-file", metavar="FILE", help="machine token [BETA9_TOKEN(_FILE)]")
    parser.add_argument("--ssh-key-file", metavar="FILE", help="tunnel key [BETA9_SSH_KEY(_FILE)]")
    parser.add_argument(
        "--tailscale-auth-file", metavar="FILE", help="tailnet key [BETA9_TAILSCALE_AUTH(_FILE)]"
    )
    parser.add_argument("--env-file", metavar="FILE", help="also read these variables from this file")
    parser.add_argument(
        "--wait",
        default="600",
        metavar="SECONDS",
        help="how long to wait for a machine that is booting [600]",
    )
    parser.add_argument(
        "--directory",
        default=DIRECTORY,
        metavar="DIR",
        help="where to store them on the machine [%(default)s]",
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Deliver the secrets. Raises: SettingsError, HostKeyError, RejectedError, TransientError."""
    from agent.provisioning.push import push_secrets

    target, wait_s = _target(args), _parsed("--wait", args.wait, amounts.seconds_or_none)
    if not args.directory.startswith("/"):
        raise SettingsError(
            f"--directory: {shown(args.directory)} is not a path on the machine; give an absolute path"
        )
    secrets = _secrets(args)
    done = push_secrets(target, secrets, args.directory, wait_s=wait_s, report=_report)
    for name, result in done.items():
        path = f"{target.host}:{args.directory}/{name}"
        print(f"{name}: written to {path}" if result == "new" else f"{name}: {path} is already up to date")
    return ExitCode.OK


def _target(args: argparse.Namespace) -> Target:
    user, at, host = str(args.where).rpartition("@")
    for option in ("identity", "known_hosts"):
        path = getattr(args, option)
        if path and not Path(path).is_file():
            raise SettingsError(
                f"--{option.replace('_', '-')}: there is no file {path}; name an existing one"
            )
    return Target(
        _parsed("USER@HOST", host, parsers.host),
        _parsed("USER@HOST", user, parsers.user) if at else None,
        _parsed("--port", args.port, parsers.port),
        str(Path(args.identity).absolute()) if args.identity else None,
        str(Path(args.known_hosts).absolute()) if args.known_hosts else None,
        tuple(_parsed("--fingerprint", args.fingerprint, parsers.fingerprints).split(","))
        if args.fingerprint
        else (),
    )


def _secrets(args: argparse.Namespace) -> dict[str, str]:
    """Return the text of each secret that is given, by its file name on the machine."""
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
        raise SettingsError("no secret is given; name files with --token-file and --ssh-key-file")
    return found


def _resolved(name: str, layers: list[Layer], secrets: Secrets) -> str | None:
    from agent.adapters.ssh.private_key import check_private_key

    field = BY_NAME[name]
    try:
        given = sources.find(field, layers)
        if given is None:
            return None
        ref = secret_ref(field.variable, given)
        text = secrets.resolve(ref)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if name == "ssh_key":
        check_private_key(text, ref.file)
    return text


def _parsed(label: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{label}: {shown(text)} {error}") from error


def _report(text: str) -> None:
    print(f"push-secrets: {text}", file=sys.stderr)
