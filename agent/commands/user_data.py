"""`beta9-worker user-data`: print the user data that turns a new cloud machine into a worker."""

from __future__ import annotations

import argparse
import base64
import gzip
import os
import sys
from pathlib import Path

from agent.core.provisioning import cloud_config, user_data
from agent.core.provisioning.env_file import read_settings
from agent.core.provisioning.user_data import BASE64, CLOUD_CONFIG, CLOUDS, FORMATS, GZIP, SCRIPT, Cloud
from agent.errors import ExitCode, SettingsError
from agent.provisioning import machine_settings
from agent.provisioning.machine_settings import MachineSettings
from agent.provisioning.templates import Templates, read_templates, read_text
from agent.settings.flags import add_field_flags
from agent.settings.sources import Layer

_EPILOG = """\
Settings come from --set, flags, the environment and --env-file, in order of precedence; ./.env and this machine's
worker.env are not read. Without a token, the new machine waits for 'beta9-worker push-secrets'. Without BETA9_SOURCE
and BETA9_AGENT_IMAGE, the machine gets the same release as this program, if this is a release.

  beta9-worker user-data --cloud aws --pool-name gpu --set BETA9_SSH_HOST=gateway.example.com \\
      --set BETA9_SSH_HOST_KEY_FINGERPRINT=SHA256:... --set BETA9_TOKEN=ssm:///beta9/token \\
      --set BETA9_SOURCE=https://example.com/beta9-worker.tar.gz#sha256=... >user-data.yaml
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "user-data",
        help="print the user data that turns a new cloud machine into a worker",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--cloud", choices=tuple(CLOUDS), default="generic", help="whose limits apply [%(default)s]"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="output format [crusoe: script; others: cloud-config]"
    )
    parser.add_argument(
        "--allow-plain-secrets",
        action="store_true",
        help="include secrets as plain text, readable by the cloud and everyone who can view the machine there",
    )
    parser.add_argument(
        "--check", metavar="FILE", help="only check a user-data.yaml that was filled in by hand"
    )
    group = parser.add_argument_group("settings of the machine", "see docs/settings.md")
    group.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set any BETA9_* variable",
    )
    group.add_argument("--env-file", metavar="FILE", help="also read variables from this file")
    add_field_flags(group)
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Print the user data. Raises: SettingsError with everything that is wrong."""
    cloud = CLOUDS[args.cloud]
    if args.check:
        return _check(args, cloud)
    form = args.format or cloud.formats[0]
    user_data.require(user_data.format_problem(cloud, form))
    env_file = Path(args.env_file) if args.env_file else None
    templates = read_templates()
    given = machine_settings.layers(_sets(args.sets), vars(args), os.environ, env_file)
    given = machine_settings.with_release(given, read_settings(templates.release)[0])
    settings = machine_settings.gather(given, off_by_default=cloud.off_ends_cost)
    _refuse_secrets(settings, allowed=args.allow_plain_secrets)
    data = _rendered(templates, settings, cloud, form)
    if form == GZIP and sys.stdout.isatty():
        raise SettingsError("gzip output is binary; redirect it into a file, as in: >user-data.gz")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    _print_warnings(settings, cloud)
    return ExitCode.OK


def _sets(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    if not all(name and equals for name, equals, _ in pairs):
        # Not quoted: it may be a secret without its variable.
        raise SettingsError(
            "--set: an argument is not NAME=VALUE; write, for example, --set BETA9_POOL_NAME=gpu"
        )
    return {name: value for name, _, value in pairs}


def _refuse_secrets(settings: MachineSettings, *, allowed: bool) -> None:
    if settings.secrets and not allowed:
        ways = "use a reference (ssm:///name, secretsmanager://id) or NAME_FILE with a path on the machine"
        push = "leave it out and deliver it with 'beta9-worker push-secrets USER@HOST'"
        raise SettingsError(
            *(
                f"{name}: the cloud would store this secret in plain text and show it to everyone who can view the"
                f" machine there; {ways}, or {push}, or allow it with --allow-plain-secrets"
                for name in settings.secrets
            )
        )
    for name in settings.secrets:
        _warn(
            f"{name} is included in plain text: the cloud stores it and shows it in the machine's description"
        )


def _rendered(templates: Templates, settings: MachineSettings, cloud: Cloud, form: str) -> bytes:
    try:
        if form == SCRIPT:
            text = user_data.start_script(templates.script_head, templates.boot, settings.values)
            user_data.require(user_data.ascii_problem(text))
        else:
            text = user_data.cloud_config(templates.user_data, settings.values)
            user_data.require(*_config_problems(text))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    data, packed = text.encode(), _packed(text)
    size_bytes = len(packed if form == GZIP else data)
    user_data.require(user_data.size_problem(cloud, form, size_bytes, len(packed)))
    return {GZIP: packed, BASE64: base64.b64encode(data) + b"\n"}.get(form, data)


def _packed(text: str) -> bytes:
    """Compress without a time stamp, so that the same settings give the same bytes and no cloud sees a change."""
    return gzip.compress(text.encode(), mtime=0)


def _config_problems(text: str) -> list[str]:
    config, problem = _yaml(text)
    return [problem] if problem else cloud_config.problems(text, config)


def _yaml(text: str) -> tuple[object, str | None]:
    import yaml

    try:
        return yaml.safe_load(text), None
    except yaml.YAMLError as error:
        return None, f"not valid YAML: {' '.join(str(error).split())}; check the indentation"


def _check(args: argparse.Namespace, cloud: Cloud) -> int:
    """Check a file that was filled in by hand, as the machine will read it. Raises: SettingsError."""
    text = read_text(Path(args.check))
    problems = [user_data.format_problem(cloud, CLOUD_CONFIG), *_config_problems(text)]
    problems.append(user_data.size_problem(cloud, CLOUD_CONFIG, len(text.encode()), len(_packed(text))))
    lines = cloud_config.written(_yaml(text)[0], user_data.WORKER_ENV)
    if lines is None:
        missing = f"nothing in it writes {user_data.WORKER_ENV}; start again from the template"
        raise SettingsError(*filter(None, problems), missing)
    problems.append(user_data.indentation_problem(lines))
    # Empty lines in front give problems the line numbers of the whole file.
    before = cloud_config.lines_before(text, lines)
    given, wrong = read_settings("\n" * before + lines.removeprefix("\ufeff"))
    where = args.check if before else f"{user_data.WORKER_ENV} in {args.check}"
    problems += [f"{where}: {each}" for each in wrong]
    try:
        settings = machine_settings.gather([Layer("", given)], is_written=True)
        _refuse_secrets(settings, allowed=args.allow_plain_secrets)
    except SettingsError as error:
        raise SettingsError(*filter(None, problems), *error.problems) from error
    user_data.require(*problems)
    _print_warnings(settings, cloud)
    print(f"{args.check}: valid, {len(text.encode())} bytes")
    return ExitCode.OK


def _print_warnings(settings: MachineSettings, cloud: Cloud) -> None:
    for warning in settings.warnings:
        _warn(warning)
    if settings.missing:
        names = " and ".join(settings.missing)
        _warn(
            f"without {names}, the machine will wait until 'beta9-worker push-secrets USER@HOST' delivers it"
        )
    if cloud.name == "lambda":
        _warn("a Lambda machine cannot end its own billing: if its boot fails, terminate it at Lambda")


def _warn(text: str) -> None:
    print(f"user-data: {text}", file=sys.stderr)
