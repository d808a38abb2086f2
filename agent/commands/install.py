"""`beta9-worker install`: run the bootstrap contained in the image on the host of the container.

    docker run --rm --privileged --pid host -v /:/host IMAGE install

The bootstrap runs as a unit of the host's systemd, not in the container: it may restart Docker, which stops
containers, including this one.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.errors import ExitCode, SettingsError
from agent.settings.proxies import NAMES as PROXIES

BUNDLE = Path("/opt/beta9-worker")
ENV_FILE = "/etc/beta9-worker/worker.env"
UNIT = "beta9-worker-install"
LOG = "/var/log/beta9-worker/install.log"
ENVIRONMENT = "/run/beta9-worker-install.env"
OPT = "/opt/beta9-worker"
IMAGE_FILE = "agent-image"
"""A file beside the bootstrap with the id of its image, for settings that name none."""
LINE = "docker run --rm --privileged --pid host -v /:/host IMAGE install"
INSIDE = ("nsenter", "--target", "1", "--mount", "--uts", "--ipc", "--net", "--pid", "--")
COMMAND_TIMEOUT_S = 60
POLL_S = 0.3
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "install",
        help="in the image only: turn the container's host into a worker",
        description=f"Run the bootstrap contained in the image on the host: {LINE}. BETA9_* variables and the "
        "proxy of the container (docker run -e …) are passed on and override the host's worker.env.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--env-file", default=ENV_FILE, metavar="FILE", help="settings file on the host [%(default)s]"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would run; change nothing")
    parser.add_argument(
        "--host",
        type=Path,
        default=Path("/host"),
        metavar="DIR",
        help="where the host's / is mounted [%(default)s]",
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Copy the bootstrap to the host, run it there, show its output, return its exit code. Raises: SettingsError."""
    _check_host(args.host, args.env_file)
    if args.dry_run:
        return _dry_run(args.host, args.env_file)
    from agent.provisioning.release_tree import put_release

    given = {k: v for k, v in os.environ.items() if k.startswith("BETA9_") or k.lower() in PROXIES}
    environment = environment_file({name: value for name, value in given.items() if value})
    image = _own_image(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    opt = args.host / OPT.lstrip("/")
    try:
        name = put_release(BUNDLE, opt, {IMAGE_FILE: f"{image}\n"} if image else {})
    except OSError as error:
        raise SettingsError(
            f"{error.filename or opt}: {error.strerror}; mount the host's / writable"
        ) from error
    print(f"bootstrap {name} is in {OPT} on the host", flush=True)
    return _run_on_host(args.host, args.env_file, environment)


def _check_host(host: Path, env_file: str) -> None:
    problems = []
    line = LINE if env_file == ENV_FILE else f"{LINE} --env-file {shlex.quote(env_file)}"
    if not (BUNDLE / "bootstrap/install.sh").is_file():
        problems.append(
            "install works only in the image, which contains the bootstrap; in a checkout run bootstrap/install.sh"
        )
    if not (host / "etc").is_dir():
        problems.append(f"{host} is not the host's /; run: {line}")
    elif not _has_host_init(host):
        problems.append(f"process 1 is not the host's, or not accessible; run: {line}")
    elif not env_file.startswith("/") or not (host / env_file.lstrip("/")).is_file():
        problems.append(
            f"{env_file} does not exist on the host; write the settings into it (docs/settings.md)"
        )
    if problems:
        raise SettingsError(*problems)


def _has_host_init(host: Path) -> bool:
    """Return whether process 1, as seen from this container, has `host` as its root."""
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
        done = run_command(argv, COMMAND_TIMEOUT_S, env={"PATH": PATH, "BETA9_ROOT": str(host)})
    except CommandFailed as error:
        print(error.stdout + error.stderr, end="", file=sys.stderr)
        return ExitCode.FAILED_CHECK
    print(done.stdout, end="")
    return ExitCode.OK


def _own_image(mounts: str) -> str:
    """Return the id of this container's image in the host's Docker, or "" if it cannot be determined."""
    from agent.adapters.process.run import CommandFailed
    from agent.adapters.process.run import run as run_command

    # Docker mounts /etc/hostname and /etc/resolv.conf from a directory named after the container.
    found = re.search(r"/containers/([0-9a-f]{64})/", mounts)
    if found is None:
        return ""
    argv = [*INSIDE, "docker", "inspect", "--format", "{{.Image}}", found[1]]
    try:
        return run_command(argv, COMMAND_TIMEOUT_S, env={"PATH": PATH}).stdout.strip()
    except CommandFailed as error:
        print(f"cannot determine this container's image ({error}); set BETA9_AGENT_IMAGE", file=sys.stderr)
        return ""


def _run_on_host(host: Path, env_file: str, environment: str) -> int:
    """Start the systemd unit, follow its log until it ends, and return its exit code."""
    from agent.adapters.process.run import spawn

    log = host / LOG.lstrip("/")
    environment_path = host / ENVIRONMENT.lstrip("/")
    log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    log.touch(mode=0o600)
    environment_path.unlink(missing_ok=True)
    environment_path.touch(mode=0o600)
    environment_path.write_text(environment, encoding="utf-8")
    with log.open("rb") as output:
        output.seek(0, os.SEEK_END)
        child = spawn(_unit(env_file), name="install", env={"PATH": PATH}, on_line=_say)
        try:
            while child.wait(POLL_S) is None:
                _show(output.read())
            _show(output.read())
        finally:
            environment_path.unlink(missing_ok=True)
    code = child.code
    return code if code is not None and code in range(256) else ExitCode.BUG


def _unit(env_file: str) -> list[str]:
    settings = {
        "Description": "Beta9 worker bootstrap",
        "EnvironmentFile": ENVIRONMENT,
        "StandardOutput": f"append:{LOG}",
        "StandardError": f"append:{LOG}",
    }
    properties = [f"--property={name}={value}" for name, value in settings.items()]
    unit = ["systemd-run", "--quiet", "--wait", "--collect", f"--unit={UNIT}", *properties]
    return [*INSIDE, *unit, "bash", f"{OPT}/current/bootstrap/install.sh", "--env-file", env_file]


def environment_file(environment: Mapping[str, str]) -> str:
    """Return the text of a systemd EnvironmentFile. Raises: SettingsError for a value with several lines."""
    lines = []
    for name, value in sorted(environment.items()):
        if not value.isprintable():
            raise SettingsError(
                f"{name} has several lines; put it into a file in /etc/beta9-worker on the host"
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
