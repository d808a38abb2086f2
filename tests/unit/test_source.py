"""`make source`: the same commit always makes the same tarball."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import __version__
from tests import ROOT

SCRIPT = ROOT / "scripts" / "source.sh"
NAME = f"beta9-worker-{__version__}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a small repository that contains the script."""
    root = tmp_path / "checkout"
    for path, text in {
        "agent/__init__.py": f'__version__ = "{__version__}"\n',
        "README": "read me\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "scripts").mkdir()
    (root / "scripts" / "source.sh").write_bytes(SCRIPT.read_bytes())
    (root / "scripts" / "source.sh").chmod(0o755)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "one")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, timeout=60)


def make_source(root: Path, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(root / "scripts" / "source.sh")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        umask=umask,
        env={"PATH": os.environ["PATH"], "HOME": str(root)},
    )


def test_it_holds_the_commit_below_one_directory_and_tells_its_checksum(checkout: Path) -> None:
    done = make_source(checkout)
    tarball = checkout / "dist" / f"{NAME}.tar.gz"
    assert done.stdout == f"{hashlib.sha256(tarball.read_bytes()).hexdigest()}  dist/{NAME}.tar.gz\n"
    with tarfile.open(tarball) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
    assert modes[f"{NAME}/scripts/source.sh"] == 0o755
    assert modes[f"{NAME}/README"] == 0o644
    assert {name.split("/")[0] for name in modes} == {NAME}


def test_it_is_the_same_whoever_makes_it(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(checkout), "other")
    assert make_source(checkout).stdout == make_source(tmp_path / "other", umask=0o077).stdout


def test_what_is_not_committed_is_left_out_and_said(checkout: Path) -> None:
    before = make_source(checkout).stdout
    (checkout / ".gitignore").write_text("dist\n")
    done = make_source(checkout)
    assert done.stdout == before
    assert "not committed" in done.stderr


def test_without_a_checkout_it_says_what_it_needs(checkout: Path) -> None:
    (checkout / ".git").rename(checkout / "elsewhere")
    done = subprocess.run(
        [str(checkout / "scripts" / "source.sh")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(checkout.parent)},
    )
    assert done.returncode == 1
    assert "not in a git checkout" in done.stderr


def test_several_runs_at_once_do_not_disturb_each_other(checkout: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: make_source(checkout).stdout, range(24)))
    assert len(set(runs)) == 1
    assert [path.name for path in (checkout / "dist").iterdir()] == [f"{NAME}.tar.gz"]
