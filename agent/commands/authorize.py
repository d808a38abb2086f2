"""`beta9-worker authorize`: print the authorized_keys line for the public key of a machine or a whole pool.

It reads only the key and writes nothing: the line goes to stdout, for the gateway's host.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent.core.provisioning.authorized_keys import DEFAULT_TARGET, Grant, key_line
from agent.core.text.describe import shown
from agent.core.text.pasted import decoded
from agent.errors import ExitCode, SettingsError
from agent.settings import parsers
from agent.settings.values import bracketed

KEY_LIMIT_BYTES = 65536
"""Far more than any public key; keeps a wrong file name (/dev/zero) from filling memory."""

_HELP = "print the authorized_keys line that lets a key open a machine's tunnel and nothing else"
_FORMAT = argparse.RawDescriptionHelpFormatter
_EPILOG = """\
on the machine:            ssh-keygen -t ed25519 -N "" -f /etc/beta9-worker/secrets/ssh_key
on any machine:            beta9-worker authorize --machine-id 1165a9b6 ssh_key.pub
on the gateway's host:     append the line to the tunnel user's authorized_keys file, or pass it to
                           bootstrap/gateway/setup.sh --key-line
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command's parser."""
    parser = subparsers.add_parser("authorize", help=_HELP, epilog=_EPILOG, formatter_class=_FORMAT)
    _add_arguments(parser)
    parser.set_defaults(function=run)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument(
        "--machine-id",
        metavar="ID",
        action="append",
        help="id of the machine that has the key; the key may use only its addresses (repeat for several machines)",
    )
    scope.add_argument(
        "--pool-key",
        action="store_true",
        help="allow all machines of a pool: any address in 127.64.0.0/10, and port 6443 of any host",
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        default=DEFAULT_TARGET,
        help="the machine's BETA9_SSH_TARGET, spelled identically [%(default)s]",
    )
    parser.add_argument(
        "--forward",
        metavar="[BIND:]PORT:HOST:PORT",
        action="append",
        default=[],
        help="the machine's BETA9_SSH_FORWARDS; repeatable, or comma-separated",
    )
    parser.add_argument(
        "--cert-authority",
        action="store_true",
        help="the key is a CA that signs user certificates: apply the line to those",
    )
    parser.add_argument(
        "public_key", metavar="PUBLIC_KEY_FILE", help="the .pub file, or - for standard input"
    )


def run(args: argparse.Namespace) -> int:
    """Print the line. Raises: SettingsError that names the unusable argument."""
    grant = Grant(tuple(args.machine_id or ()), (args.target, *_forward_targets(args.forward)))
    print(key_line(_read(args.public_key), grant, cert_authority=args.cert_authority))
    return int(ExitCode.OK)


def _forward_targets(forwards: list[str]) -> list[str]:
    targets: list[str] = []
    for text in forwards:
        try:
            parsed = parsers.forwards(text)
        except ValueError as error:
            raise SettingsError(f"--forward: {error}") from error
        targets += [f"{bracketed(forward.host)}:{forward.host_port}" for forward in parsed]
    return list(dict.fromkeys(targets))


def _read(name: str) -> str:
    try:
        if name == "-":
            return decoded(sys.stdin.buffer.read(KEY_LIMIT_BYTES))
        with Path(name).open("rb") as file:
            return decoded(file.read(KEY_LIMIT_BYTES))
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"public key file {shown(name)}: it is not text; give the .pub file written by ssh-keygen"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"public key file {shown(name)}: {error.strerror}; give the .pub file written by ssh-keygen"
        ) from error


def main() -> int:
    """Run from a checkout without anything installed, as bootstrap/gateway/setup.sh does."""
    parser = argparse.ArgumentParser("authorize", description=_HELP, epilog=_EPILOG, formatter_class=_FORMAT)
    _add_arguments(parser)
    try:
        return run(parser.parse_args())
    except SettingsError as error:
        print(f"authorize: {error}", file=sys.stderr)
        return int(error.exit_code)


if __name__ == "__main__":
    raise SystemExit(main())
