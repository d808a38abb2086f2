"""`beta9-worker install`: from the image, run the bootstrap that it brings on the machine around the container.

    docker run --rm --privileged --pid host -v /:/host IMAGE install

The bootstrap runs as a unit of the host's own systemd, not below the container: it may restart Docker, which ends
containers, this one too.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.errors import ExitCode, SettingsError

BUNDLE = Path("/opt/beta9-worker")
ENV_FILE = "/etc/beta9-worker/worker.env"
UNIT = "beta9-worker-install"
LOG = "/var/log/beta9-worker/install.log"
HANDED_ON = "/run/beta9-worker-install.env"
OPT = "/opt/beta9-worker"
IMAGE_FILE = "agent-image"
"""Beside the bootstrap: which image it came out of, for when the settings name none."""
LINE = "docker run --rm --privileged --pid host -v /:/host IMAGE install"
INSIDE = ("nsenter", "--target", "1", "--mount", "--uts", "--ipc", "--net", "--pid", "--")
ASK_S = 60
LOOK_S = 0.3
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "install",
        help="from the image: make the machine around the container a worker",
        description=f"Runs the bootstrap that the image brings on the host: {LINE}. BETA9_* variables of the "
        "container (docker run -e …) are handed on and go before the host's worker.env.",
        allow_abbrev=False,
    )
    parser.add_argument("--env-file", default=ENV_FILE, metavar="FILE", help="on the host [%(default)s]")
    parser.add_argument("--dry-run", action="store_true", help="say what would run; change nothing")
    parser.add_argument(
        "--host", type=Path, default=Path("/host"), metavar="DIR", help="the host's / in here [%(default)s]"
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Put the bootstrap on the host, run it there, show what it says; its exit code. Raises: SettingsError."""
    _refuse_where_it_cannot_work(args.host, args.env_file)
    if args.dry_run:
        return _dry_run(args.host, args.env_file)
    from agent.provisioning.release_tree import put_release

    environment = environment_file({k: v for k, v in os.environ.items() if k.startswith("BETA9_") and v})
    image = _own_image(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    opt = args.host / OPT.lstrip("/")
    try:
        name = put_release(BUNDLE, opt, {IMAGE_FILE: f"{image}\n"} if image else {})
    except OSError as error:
        raise SettingsError(
            f"{error.filename or opt}: {error.strerror}; mount the host's / writable"
        ) from error
    print(f"bootstrap {name} is in {OPT} on this machine", flush=True)
    return _run_there(args.host, args.env_file, environment)


def _refuse_where_it_cannot_work(host: Path, env_file: str) -> None:
    problems = []
    if not (BUNDLE / "bootstrap/install.sh").is_file():
        problems.append(
            "install works in the image, which brings the bootstrap; from a checkout run install.sh"
        )
    if not (host / "etc").is_dir():
        problems.append(f"{host} is not the host's /: {LINE}")
    elif not _is_host_s_init(host):
        problems.append(f"process 1 is not the host's, or may not be looked at: {LINE}")
    elif not env_file.startswith("/") or not (host / env_file.lstrip("/")).is_file():
        problems.append(f"{env_file} is not on the host; write the settings there (docs/settings.md)")
    if problems:
        raise SettingsError(*problems)


def _is_host_s_init(host: Path) -> bool:
    """Whether the first process that is seen here has `host` as its root."""
    try:
        return Path("/proc/1/root").samefile(host)
    except OSError:
        return False


def _dry_run(host: Path, env_file: str) -> int:
    from agent.adapters.process.run import CommandFailed
    from agent.adapters.process.run import run as run_command

    argv = ["bash", str(BUNDLE / "bootstrap/install.sh"), "--dry-run", "--env-file"]
    argv.append(str(host / env_file.lstrip("/")))
    try:
        done = run_command(argv, ASK_S, env={"PATH": PATH, "BETA9_ROOT": str(host)})
    except CommandFailed as error:
        print(error.stdout + error.stderr, end="", file=sys.stderr)
        return ExitCode.FAILED_CHECK
    print(done.stdout, end="")
    return ExitCode.OK


def _own_image(mounts: str) -> str:
    """The id of this container's image, as the host's Docker has it; "" where that cannot be found out."""
    from agent.adapters.process.run import CommandFailed
    from agent.adapters.process.run import run as run_command

    # Docker mounts the container's host name and resolver from a directory that is named after it.
    found = re.search(r"/containers/([0-9a-f]{64})/", mounts)
    if found is None:
        return ""
    ask = [*INSIDE, "docker", "inspect", "--format", "{{.Image}}", found[1]]
    try:
        return run_command(ask, ASK_S, env={"PATH": PATH}).stdout.strip()
    except CommandFailed as error:
        print(f"which image this is, is not known ({error}); BETA9_AGENT_IMAGE has to say", file=sys.stderr)
        return ""


def _run_there(host: Path, env_file: str, environment: str) -> int:
    """Start the unit and follow its log until it has ended."""
    from agent.adapters.process.run import spawn

    log = host / LOG.lstrip("/")
    handed_on = host / HANDED_ON.lstrip("/")
    log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    log.touch(mode=0o600)
    handed_on.unlink(missing_ok=True)
    handed_on.touch(mode=0o600)
    handed_on.write_text(environment, encoding="utf-8")
    with log.open("rb") as said:
        said.seek(0, os.SEEK_END)
        child = spawn(_unit(env_file), name="install", env={"PATH": PATH}, on_line=_say)
        try:
            while child.wait(LOOK_S) is None:
                _show(said.read())
            _show(said.read())
        finally:
            handed_on.unlink(missing_ok=True)
    code = child.code
    return code if code is not None and code in range(256) else ExitCode.BUG


def _unit(env_file: str) -> list[str]:
    settings = {
        "Description": "Beta9 worker bootstrap",
        "EnvironmentFile": HANDED_ON,
        "StandardOutput": f"append:{LOG}",
        "StandardError": f"append:{LOG}",
    }
    properties = [f"--property={name}={value}" for name, value in settings.items()]
    unit = ["systemd-run", "--quiet", "--wait", "--collect", f"--unit={UNIT}", *properties]
    return [*INSIDE, *unit, "bash", f"{OPT}/current/bootstrap/install.sh", "--env-file", env_file]


def environment_file(environment: Mapping[str, str]) -> str:
    """The text of a systemd EnvironmentFile. Raises: SettingsError for a value of several lines."""
    lines = []
    for name, value in sorted(environment.items()):
        if not value.isprintable():
            raise SettingsError(
                f"{name} has several lines; put it into a file below /etc/beta9-worker on the host"
            )
        quoted = re.sub(r'(["\\$`])', r"\\\1", value)
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(text: bytes) -> None:
    if text:
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
