"""User data for a new machine: the template with its settings filled in, and what each cloud takes of it.

Pure: templates come in as texts, and go out as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.core.provisioning.env_file import env_lines
from agent.errors import SettingsError

BEGIN = "# settings"
END = "# end of settings"
WORKER_ENV = "/etc/beta9-worker/worker.env"
HEREDOC_END = "BETA9_END_OF_SETTINGS"
"""The line in script-head.sh that ends the settings there."""

CLOUD_CONFIG, SCRIPT, GZIP, BASE64 = FORMATS = ("cloud-config", "script", "gzip", "base64")


@dataclass(frozen=True)
class Cloud:
    """What a cloud takes as user data."""

    name: str
    limit_bytes: int | None
    """Of what is handed over, before the base64 that a cloud's interface may ask for. None: we know none."""
    formats: tuple[str, ...]
    """The first is the usual one."""
    off_ends_cost: bool = False
    """A machine that powers itself off stops costing."""


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        # EC2 user guide, "Run commands when you launch an EC2 instance": 16 KB in raw form, before base64.
        Cloud("aws", 16 * 1024, (CLOUD_CONFIG, GZIP, BASE64, SCRIPT), off_ends_cost=True),
        # Crusoe's start-up scripts: bash, ASCII, less than 64 kB; not cloud-init.
        Cloud("crusoe", 64 * 1024 - 1, (SCRIPT,), off_ends_cost=True),
        # Lambda's launch API: plain cloud-init user data, 1 MB. Only its terminate call ends the costs.
        Cloud("lambda", 1024 * 1024, (CLOUD_CONFIG, SCRIPT)),
        Cloud("generic", None, FORMATS),
    )
}


def cloud_config(template: str, settings: Mapping[str, str]) -> str:
    """cloud-init/user-data.yaml with these settings. Raises: ValueError as `env_lines` does."""
    return _filled(template, env_lines(settings))


def start_script(head: str, boot: str, settings: Mapping[str, str]) -> str:
    """The same as one bash script: cloud-init/script-head.sh with these settings, then boot.sh.

    Raises: ValueError as `env_lines` does, and for a value that would end the settings early.
    """
    lines = env_lines(settings)
    if HEREDOC_END in lines:
        raise ValueError(
            f"a setting has a line {HEREDOC_END}, at which the script would stop reading; change it"
        )
    return _filled(head, lines) + boot


def _filled(template: str, settings: Iterable[str]) -> str:
    lines = template.split("\n")
    begin, end, indent = _between(lines)
    # An empty line stays empty: YAML wants no indentation there, and editors take it away.
    inner = [f"{indent}{line}" if line else "" for line in settings]
    return "\n".join([*lines[: begin + 1], *inner, *lines[end:]])


def _between(lines: list[str]) -> tuple[int, int, str]:
    """The markers' lines, and how far they are indented."""
    begins = [number for number, line in enumerate(lines) if line.strip() == BEGIN]
    ends = [number for number, line in enumerate(lines) if line.strip() == END]
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise ValueError(f"the settings do not stand between one line '{BEGIN}' and one line '{END}'")
    first = lines[begins[0]]
    return begins[0], ends[0], first[: len(first) - len(first.lstrip())]


def format_problem(cloud: Cloud, form: str) -> str | None:
    """Say why a cloud does not take a format, or None."""
    if form in cloud.formats:
        return None
    return f"--format {form}: {cloud.name} does not take that; choose {' or '.join(cloud.formats)}"


def size_problem(cloud: Cloud, form: str, size_bytes: int, gzip_bytes: int) -> str | None:
    """Say that a cloud would refuse the text for its length, and what to do; or None."""
    if cloud.limit_bytes is None or size_bytes <= cloud.limit_bytes:
        return None
    ways = [
        "give secrets by reference or by 'beta9-worker push-secrets'",
        "put long values into files on the machine",
    ]
    if form != GZIP and GZIP in cloud.formats and gzip_bytes <= cloud.limit_bytes:
        ways.insert(0, f"take --format gzip ({gzip_bytes} bytes), which cloud-init unpacks")
    too_long = f"the user data has {size_bytes} bytes and {cloud.name} takes {cloud.limit_bytes}"
    return f"{too_long}; {', or '.join(ways)}"


def ascii_problem(text: str) -> str | None:
    """Say which line of a start-up script holds more than ASCII, or None."""
    for line in text.split("\n"):
        if not line.isascii():
            return f"a start-up script must be ASCII and {line.partition('=')[0]} is not; spell its value otherwise"
    return None


def indentation_problem(worker_env: str) -> str | None:
    """Say that YAML left blanks before a setting, because the first line stands further left; or None."""
    for line in worker_env.split("\n"):
        if line.lstrip() != line and line.lstrip().startswith("BETA9_"):
            return f"{line.partition('=')[0].strip()} is indented more than the first line there; align them"
    return None


def require(*problems: str | None) -> None:
    """Raises: SettingsError with all that are no None, if there are any."""
    told = [problem for problem in problems if problem]
    if told:
        raise SettingsError(*told)
