"""`beta9-worker completion`: print the completion script for a shell."""

from __future__ import annotations

import argparse

from agent.errors import ExitCode

SHELLS = ("bash", "zsh")
_EPILOG = """\
for this shell:            eval "$(beta9-worker completion bash)"       (zsh: after compinit)
for every shell:           put that line into ~/.bashrc or ~/.zshrc
for all users:             the bootstrap installs both scripts, and the manual page, on a worker
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "completion",
        help="print the completion script for bash or zsh",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    print(text(args.shell), end="")
    return ExitCode.OK


def text(shell: str) -> str:
    """Return the completion script for a shell."""
    from agent.cli import build_parser
    from agent.completion import bash, words, zsh

    parser = build_parser()
    commands, options = words.commands(parser), words.global_options(parser)
    return bash.script(commands, options) if shell == "bash" else zsh.script(commands, options)
