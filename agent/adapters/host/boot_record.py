"""Reads the record that the bootstrap writes about itself; the file may change while the bootstrap runs."""

from __future__ import annotations

import json
from pathlib import Path

from agent.core.host.boot_record import Boot, read_boot
from agent.errors import SettingsError

NAME = "bootstrap.json"
LIMIT_BYTES = 256 * 1024
"""Far more than a record of about twenty stages takes."""


def boot_of(state_dir: Path) -> Boot | None:
    """Return this machine's last bootstrap; None if there was none or its record is unusable. Never raises."""
    try:
        return read_file(state_dir / NAME)
    except SettingsError:  # `boot-report` shows it; the agent does not need the record
        return None


def read_file(path: Path) -> Boot:
    """Return the record in a file. Raises: SettingsError."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(LIMIT_BYTES))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} does not exist: no bootstrap has run on this machine; name another file with --file"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); run it as root") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not a bootstrap record; run the bootstrap again") from error
    boot = read_boot(record) if isinstance(record, dict) else None
    if boot is None:
        raise SettingsError(f"{path} is not a bootstrap record; run the bootstrap again")
    return boot
