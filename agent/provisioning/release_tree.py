"""A release's files on the host: a directory named after its content, and a link to the current one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

NAME_LENGTH = 12
"""The same as in cloud-init/boot.sh, which names the trees that it unpacks in this way."""


def content_name(tree: Path) -> str:
    """Return 12 hex characters: a hash over every path below `tree`, its content and whether it is executable."""
    total = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        total.update(f"{content} {mode} {path.relative_to(tree)}\n".encode())
    return total.hexdigest()[:NAME_LENGTH]


def put_release(tree: Path, opt: Path, notes: Mapping[str, str]) -> str:
    """Copy `tree` to `opt`/releases/NAME unless it is there, point `opt`/current at it, and return NAME.

    `notes` are small files to put into it, by name. Everything is renamed into place, so that an interrupted copy is
    never run. Raises: OSError.
    """
    name = content_name(tree)
    releases = opt / "releases"
    releases.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=releases) as temporary:
        if not (releases / name).exists():
            copied = Path(temporary, "tree")
            shutil.copytree(tree, copied)
            copied.chmod(0o755)
            copied.rename(releases / name)
        for note, text in notes.items():
            Path(temporary, note).write_text(text, encoding="utf-8")
            Path(temporary, note).replace(releases / name / note)
        link = Path(temporary, "current")
        link.symlink_to(Path("releases", name))
        os.replace(link, opt / "current")  # noqa: PTH105 - Path.replace reads as if it replaced the link's target
    return name
