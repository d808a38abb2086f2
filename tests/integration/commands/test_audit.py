"""`make audit` and `make sbom`: the real pip-audit and SBOM generator, with advisories in OSV's schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.advisories import Advisories
from scripts.audit import ROOT, findings, pins
from scripts.sbom import make

HASH = "--hash=sha256:" + 64 * "0"


def advisory(package: str, **affected: Any) -> dict[str, Any]:
    return {
        "id": "PYSEC-2000-1",
        "aliases": ["CVE-2000-0001"],
        "details": "An example.",
        "modified": "2000-01-02T00:00:00Z",
        "published": "2000-01-01T00:00:00Z",
        "affected": [{"package": {"name": package, "ecosystem": "PyPI"}, **affected}],
    }


def between(*events: dict[str, str]) -> list[dict[str, Any]]:
    return [{"type": "ECOSYSTEM", "events": list(events)}]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A checkout in the advisory database's layout, with one advisory on urllib3 before 1.26.5."""
    folder = tmp_path / "database/vulns/urllib3"
    folder.mkdir(parents=True)
    known = advisory("urllib3", ranges=between({"introduced": "0"}, {"fixed": "1.26.5"}))
    (folder / "PYSEC-2000-1.yaml").write_text(yaml.safe_dump(known))
    return tmp_path / "database"


def audit(lock: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "some.lock"
    path.write_text(lock)
    return subprocess.run(
        [sys.executable, "-m", "scripts.audit", str(path)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_vulnerable_pin_fails_the_audit_and_is_named(database: Path, tmp_path: Path) -> None:
    result = audit(f"urllib3==1.26.4 {HASH}\nidna==3.20 {HASH}\n", tmp_path, ADVISORIES=str(database))
    assert result.returncode == 1
    assert "urllib3 1.26.4: PYSEC-2000-1 (CVE-2000-0001), fixed in 1.26.5" in result.stderr
    assert result.stdout == "audit: 2 locked packages, 1 findings\n"


def test_the_fixed_version_passes(database: Path, tmp_path: Path) -> None:
    result = audit(f"urllib3==1.26.5 {HASH}\n", tmp_path, ADVISORIES=str(database))
    assert (result.returncode, result.stdout) == (0, "audit: 1 locked packages, 0 findings\n"), result.stderr


def test_what_is_locked_for_another_platform_is_not_missed(database: Path, tmp_path: Path) -> None:
    lock = f"pywin32==312 ; sys_platform == 'win32' {HASH}\nidna==3.20 {HASH}\n"
    result = audit(lock, tmp_path, ADVISORIES=str(database))
    assert (result.returncode, result.stdout) == (0, "audit: 1 locked packages, 0 findings\n"), result.stderr


def test_a_place_without_advisories_fails_instead_of_finding_nothing(tmp_path: Path) -> None:
    result = audit(f"urllib3==1.26.5 {HASH}\n", tmp_path, ADVISORIES=str(tmp_path))
    assert result.returncode == 1
    assert "give a checkout of pypa/advisory-database" in result.stderr


def test_a_lock_that_pip_audit_cannot_read_fails(database: Path, tmp_path: Path) -> None:
    result = audit("urllib3==1.26.5\n", tmp_path, ADVISORIES=str(database))  # no hash
    assert result.returncode == 1
    assert "pip-audit made no report" in result.stderr


def test_a_package_that_was_skipped_or_left_out_is_a_finding() -> None:
    report = {
        "dependencies": [
            {"name": "a", "skip_reason": "not on PyPI"},
            {"name": "B_c", "version": "1.0", "vulns": []},
        ]
    }
    assert findings(report, {"a": "1", "b-c": "1.0", "d": "2"}) == [
        "a: not checked: not on PyPI",
        "d 2: locked, but missing from the report",
    ]


@pytest.mark.parametrize(
    ("version", "affected", "concerned"),
    [
        ("1.0", {"versions": ["1.0"]}, True),
        ("1.0.0", {"versions": ["1.0", "not a version"]}, True),
        ("1.1", {"versions": ["1.0"]}, False),
        ("1.5", {"ranges": between({"introduced": "1.2"}, {"fixed": "1.6"})}, True),
        ("1.6", {"ranges": between({"introduced": "1.2"}, {"fixed": "1.6"})}, False),
        ("1.1", {"ranges": between({"introduced": "1.2"}, {"fixed": "1.6"})}, False),
        ("9", {"ranges": between({"introduced": "0"})}, True),
        ("1.6", {"ranges": between({"introduced": "0"}, {"last_affected": "1.6"})}, True),
        ("1.7", {"ranges": between({"introduced": "0"}, {"last_affected": "1.6"})}, False),
        (
            "2.1",
            {"ranges": between({"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"}, {"fixed": "3"})},
            True,
        ),
        (
            "1.1",
            {"ranges": between({"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"}, {"fixed": "3"})},
            False,
        ),
        ("1.0", {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, False),
    ],
)
def test_the_ranges_of_the_schema(
    version: str, affected: dict[str, Any], concerned: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "vulns/some_package"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text(yaml.safe_dump(advisory("Some.Package", **affected)))
    assert bool(Advisories(tmp_path).of("some-package", version)) is concerned


def test_the_sbom_holds_every_package_of_the_lock_and_is_reproducible() -> None:
    lock = ROOT / "requirements/runtime.lock"
    text = make(lock)
    assert text == make(lock, validate=False), "the SBOM is not reproducible"
    listed = {each["name"]: each for each in json.loads(text)["components"]}
    assert listed.keys() >= pins(lock).keys()
    assert all(each["externalReferences"][0]["hashes"] for each in listed.values())
    assert str(ROOT) not in text
