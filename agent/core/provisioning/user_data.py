"""User data for a new machine: a template with settings filled in, and the limits of each cloud.

Pure: takes templates as text and returns text.
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
"""The line that ends the here-document with the settings in script-head.sh."""

CLOUD_CONFIG, SCRIPT, GZIP, BASE64 = FORMATS = ("cloud-config", "script", "gzip", "base64")


@dataclass(frozen=True)
class Cloud:
    """What a cloud accepts as user data."""

    name: str
    limit_bytes: int | None
    """Limit on the data before the base64 encoding that a cloud's API may require. None: no known limit."""
    formats: tuple[str, ...]
    """The first is the default."""
    off_ends_cost: bool = False
    """Whether a machine that powers itself off is no longer billed."""


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        # EC2 user guide, "Run commands when you launch an EC2 instance": 16 KB raw, before base64.
        Cloud("aws", 16 * 1024, (CLOUD_CONFIG, GZIP, BASE64, SCRIPT), off_ends_cost=True),
        # Crusoe's startup scripts: bash, ASCII, less than 64 kB; no cloud-init.
        Cloud("crusoe", 64 * 1024 - 1, (SCRIPT,), off_ends_cost=True),
        # Lambda's launch API: plain cloud-init user data, 1 MB. Only its terminate call ends the billing.
        Cloud("lambda", 1024 * 1024, (CLOUD_CONFIG, SCRIPT)),
        Cloud("generic", None, FORMATS),
    )
}


def cloud_config(template: str, settings: Mapping[str, str]) -> str:
    """Return cloud-init/user-data.yaml with these settings. Raises: ValueError as `env_lines` does."""
    return _filled(template, env_lines(settings))


def start_script(head: str, boot: str, settings: Mapping[str, str]) -> str:
    """Return one bash script with the same effect: cloud-init/script-head.sh with these settings, then boot.sh.

    Raises: ValueError as `env_lines` does, and for a value that would end the here-document early.
    """
    lines = env_lines(settings)
    if HEREDOC_END in lines:
        raise ValueError(
            f"a setting contains the line {HEREDOC_END}, which ends the settings in the script; change it"
        )
    return _filled(head, lines) + boot


def _filled(template: str, settings: Iterable[str]) -> str:
    lines = template.split("\n")
    begin, end, indent = _between(lines)
    # Empty lines are not indented: YAML does not need it, and editors strip it.
    indented = [f"{indent}{line}" if line else "" for line in settings]
    return "\n".join([*lines[: begin + 1], *indented, *lines[end:]])


def _between(lines: list[str]) -> tuple[int, int, str]:
    """Return the line numbers of the two markers, and their indentation."""
    begins = [number for number, line in enumerate(lines) if line.strip() == BEGIN]
    ends = [number for number, line in enumerate(lines) if line.strip() == END]
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise ValueError(f"the template must have one line '{BEGIN}' and, below it, one line '{END}'")
    first = lines[begins[0]]
    return begins[0], ends[0], first[: len(first) - len(first.lstrip())]


def format_problem(cloud: Cloud, form: str) -> str | None:
    """Return why a cloud does not accept a format, or None."""
    if form in cloud.formats:
        return None
    return f"--format {form}: {cloud.name} does not accept it; choose {' or '.join(cloud.formats)}"


def size_problem(cloud: Cloud, form: str, size_bytes: int, gzip_bytes: int) -> str | None:
    """Return that the text is too long for a cloud, with ways to shorten it; or None."""
    if cloud.limit_bytes is None or size_bytes <= cloud.limit_bytes:
        return None
    ways = [
        "give secrets by reference or with 'beta9-worker push-secrets'",
        "put long values into files on the machine",
    ]
    if form != GZIP and GZIP in cloud.formats and gzip_bytes <= cloud.limit_bytes:
        ways.insert(0, f"use --format gzip ({gzip_bytes} bytes), which cloud-init unpacks")
    error = f"the user data has {size_bytes} bytes, but {cloud.name} accepts at most {cloud.limit_bytes}"
    return f"{error}; {', or '.join(ways)}"


def ascii_problem(text: str) -> str | None:
    """Return which line of a startup script is not ASCII, or None."""
    for line in text.split("\n"):
        if not line.isascii():
            return f"a startup script must be ASCII, but {line.partition('=')[0]} is not; change its value"
    return None


def indentation_problem(worker_env: str) -> str | None:
    """Return which setting YAML leaves indented, because the first line is indented less; or None."""
    for line in worker_env.split("\n"):
        if line.lstrip() != line and line.lstrip().startswith("BETA9_"):
            return f"{line.partition('=')[0].strip()} is indented more than the first line of its block; align them"
    return None


def require(*problems: str | None) -> None:
    """Raise SettingsError with all problems that are not None, if any."""
    found = [problem for problem in problems if problem]
    if found:
        raise SettingsError(*found)
