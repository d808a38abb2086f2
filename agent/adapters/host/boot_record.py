"""Reading what the bootstrap left about itself. It may be at work, so the file may change at any moment."""

from __future__ import annotations

import json
from pathlib import Path

from agent.core.host.boot_record import Boot, read_boot
from agent.errors import SettingsError

NAME = "bootstrap.json"
LIMIT_BYTES = 256 * 1024
"""Far more than a record of some twenty stages."""


def boot_of(state_dir: Path) -> Boot | None:
    """The last bootstrap of this machine; None where there was none, or its record says nothing. Never raises."""
    try:
        return read_file(state_dir / NAME)
    except SettingsError:  # said by `boot-report`; the agent itself goes on without
        return None


def read_file(path: Path) -> Boot:
    """The record in a file. Raises: SettingsError."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(LIMIT_BYTES))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} is not there: no bootstrap has run on this machine; name another by --file"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); run it as root") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} holds no record of a bootstrap; run the bootstrap again") from error
    boot = read_boot(record) if isinstance(record, dict) else None
    if boot is None:
        raise SettingsError(f"{path} holds no record of a bootstrap; run the bootstrap again")
    return boot
