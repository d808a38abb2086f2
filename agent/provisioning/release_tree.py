"""A release's files on the host: a directory named after its contents, and a link to the one that counts."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

NAME_LENGTH = 12
"""As cloud-init/boot.sh names the trees that it unpacks."""


def content_name(tree: Path) -> str:
    """Twelve hex characters that stand for every path below `tree`, with its contents and whether it is run."""
    total = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        is_run = "x" if path.stat().st_mode & 0o100 else "-"
        total.update(f"{content} {is_run} {path.relative_to(tree)}\n".encode())
    return total.hexdigest()[:NAME_LENGTH]


def put_release(tree: Path, opt: Path, notes: Mapping[str, str]) -> str:
    """Copy `tree` to `opt`/releases/NAME where it is not there yet, and point `opt`/current there; NAME.

    `notes` are small files beside it, by name. All appears at one stroke, so that a copy that was broken off is
    never run. Raises: OSError.
    """
    name = content_name(tree)
    releases = opt / "releases"
    releases.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=releases) as made:
        if not (releases / name).exists():
            copied = Path(made, "tree")
            shutil.copytree(tree, copied)
            copied.chmod(0o755)
            copied.rename(releases / name)
        for note, text in notes.items():
            Path(made, note).write_text(text, encoding="utf-8")
            Path(made, note).replace(releases / name / note)
        link = Path(made, "current")
        link.symlink_to(Path("releases", name))
        os.replace(link, opt / "current")  # noqa: PTH105 - Path.replace says the same, less plainly for a link
    return name
