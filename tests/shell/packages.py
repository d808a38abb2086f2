"""Build Debian packages and repositories for the real apt in a throw-away copy of this machine.

Packages contain only the programs that a test needs; repositories are signed, like the real ones.
"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One .deb. `files` maps absolute paths to contents; files in a bin directory are executable."""

    name: str
    version: str
    depends: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()

    def build(self, directory: Path) -> Path:
        tree = directory / f"{self.name}.tree"
        control = [
            f"Package: {self.name}",
            f"Version: {self.version}",
            "Architecture: all",
            "Maintainer: Tests <tests@example.invalid>",
            "Description: made by tests/shell/packages.py",
        ]
        for relation, others in (("Depends", self.depends), ("Conflicts", self.conflicts)):
            if others:
                control.append(f"{relation}: {', '.join(others)}")
        for path, content in {**self.files, "/DEBIAN/control": "\n".join(control) + "\n"}.items():
            file = tree / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(0o755 if "/bin/" in path else 0o644)
        deb = directory / f"{self.name}_{self.version}_all.deb"
        run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(deb))
        run("rm", "-r", str(tree))
        return deb


class Key:
    """A signing key in its own GnuPG home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True)
        self.gpg(
            "--passphrase", "", "--quick-generate-key", "Tests <tests@example.invalid>", "ed25519", "sign"
        )

    def gpg(self, *arguments: str) -> str:
        """Run gpg, and end the agent that it starts and would leave behind."""
        try:
            return run("gpg", "--homedir", str(self.home), "--batch", "--quiet", *arguments)
        finally:
            run("gpgconf", "--homedir", str(self.home), "--kill", "gpg-agent")

    @property
    def fingerprint(self) -> str:
        listing = self.gpg("--list-keys", "--with-colons").splitlines()
        return next(line.split(":")[9] for line in listing if line.startswith("fpr:"))

    def export(self, file: Path) -> None:
        file.write_text(self.gpg("--armor", "--export"))


def publish(directory: Path, packages: list[Package], key: Key | None = None, valid_until: str = "") -> None:
    """Create a flat repository, for `deb file:DIRECTORY /`; unsigned without a key."""
    directory.mkdir(parents=True)
    stanzas = []
    for package in packages:
        deb = package.build(directory)
        stanzas.append(
            run("dpkg-deb", "--field", str(deb)).strip()
            + f"\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256(deb)}\n"
        )
    index = directory / "Packages"
    index.write_text("\n".join(stanzas))
    release = directory / "Release"
    release.write_text(
        "Origin: tests\nSuite: stable\nDate: Wed, 25 Nov 2026 00:00:00 UTC\n"
        + (f"Valid-Until: {valid_until}\n" if valid_until else "")
        + f"SHA256:\n {sha256(index)} {index.stat().st_size} Packages\n"
    )
    if key:
        key.gpg("--clearsign", "--output", str(directory / "InRelease"), str(release))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
